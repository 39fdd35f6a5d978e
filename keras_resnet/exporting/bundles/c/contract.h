/* From preprocess.json and labels.txt of the export. */
#define IMAGE_SIZE {{image_size}}
#define CENTER_CROP {{center_crop}}f /* the middle square, as a share of the shorter side */
#define CLASSES {{classes}}
