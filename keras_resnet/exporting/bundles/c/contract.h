/* From preprocess.json and labels.txt of the export. */
#define IMAGE_SIZE {{image_size}}
#define CENTER_CROP {{center_crop}}f /* the middle square, as a share of the shorter side */
#define CLASSES {{classes}}
/* Below the threshold of this score, or with more energy, an image is of none of the classes. */
enum { NO_SCORE, PROBABILITY, ENERGY, MARGIN };
#define REJECT_SCORE {{reject_score_c}}
#define REJECT_THRESHOLD {{reject_threshold}}
#define REJECT_MOST_ENERGY {{reject_most_energy}}
