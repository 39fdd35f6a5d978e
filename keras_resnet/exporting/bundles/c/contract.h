/* From preprocess.json and labels.txt of the export. */
#define HEIGHT {{height}}
#define WIDTH {{width}}
#define CHANNELS {{channels}} /* 3: RGB, 1: luma */
#define FIT {{fit_c}} /* CROP, PAD or STRETCH: see image.h */
#define CENTER_CROP {{center_crop}}f /* with CROP: share of the photo in its middle */
#define CLASSES {{classes}}
/* Below the threshold of this score, or with more energy, an image is of none of the classes. */
enum { NO_SCORE, PROBABILITY, ENERGY, MARGIN };
#define REJECT_SCORE {{reject_score_c}}
#define REJECT_THRESHOLD {{reject_threshold}}
#define REJECT_MOST_ENERGY {{reject_most_energy}}
