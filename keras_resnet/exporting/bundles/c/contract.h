/* From preprocess.json and labels.txt of the export. */
#define HEIGHT {{height}}
#define WIDTH {{width}}
#define CHANNELS {{channels}} /* 3: RGB, 1: luma */
#define FIT {{fit_c}} /* CROP, PAD or STRETCH: see image.h */
#define CENTER_CROP {{center_crop}}f /* with CROP: centre share of the photo */
#define CLASSES {{classes}}
/* An image is rejected if this score is below the threshold, or its energy is above the limit. */
enum { NO_SCORE, PROBABILITY, ENERGY, MARGIN };
#define REJECT_SCORE {{reject_score_c}}
#define REJECT_THRESHOLD {{reject_threshold}}
#define REJECT_MOST_ENERGY {{reject_most_energy}}
