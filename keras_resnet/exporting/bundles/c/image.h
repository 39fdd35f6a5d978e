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

/* Takes the middle square, `crop` of the shorter side, and resizes it to `size` x `size`, bilinear
 * and antialiased; writes size * size * 3 values in 0 to 255. Returns 0 if it runs out of memory. */
int center_view(const Image *image, float crop, int size, uint8_t *rgb);

#endif
