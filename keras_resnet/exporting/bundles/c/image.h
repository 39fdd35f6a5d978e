/* Preprocessing of a photo. */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdint.h>

typedef struct {
  int width, height;
  uint8_t *rgb; /* rows from the top, no padding; the caller frees it */
} Image;

/* Reads a binary PPM (P6) with 255 levels; returns 0 on failure. */
int read_ppm(const char *path, Image *image);

/* How a photo is fitted to the input of the network. CROP resizes the centre part with the aspect
 * ratio of the input; PAD resizes the whole photo to fit, and pads with black; STRETCH resizes both
 * sides independently. */
typedef enum { CROP, PAD, STRETCH } Fit;

typedef struct {
  int height, width, channels; /* 3: RGB, 1: luma */
  Fit fit;
} Geometry;

/* Fits a photo to the input, bilinear and antialiased; writes height * width * channels values in 0
 * to 255. With CROP, `crop` is the share of the limiting side. Returns 0 if it runs out of memory. */
int center_view(const Image *image, const Geometry *input, float crop, uint8_t *pixels);

#endif
