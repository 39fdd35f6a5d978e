/* Preprocessing of a photo. */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdint.h>

typedef struct {
  int width, height;
  uint8_t *rgb; /* rows from the top, no padding; to be freed */
} Image;

/* Reads a binary PPM (P6) of 255 levels; returns 0 if it cannot. */
int read_ppm(const char *path, Image *image);

/* How a photo becomes the input of the network. CROP resizes the part in the middle that has the
 * aspect ratio of the input; PAD resizes all of it to fit, in the middle of black; STRETCH resizes
 * both sides independently. */
typedef enum { CROP, PAD, STRETCH } Fit;

typedef struct {
  int height, width, channels; /* 3: RGB, 1: luma */
  Fit fit;
} Geometry;

/* Fits a photo to the input, bilinear and antialiased; writes height * width * channels values in 0
 * to 255. With CROP, it takes `crop` of the side that limits the part. Returns 0 if it runs out of
 * memory. */
int center_view(const Image *image, const Geometry *input, float crop, uint8_t *pixels);

#endif
