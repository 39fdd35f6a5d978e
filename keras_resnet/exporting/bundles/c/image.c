#include "image.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The next number of a PPM header, which may have comments; -1 if there is none. */
static int header_number(FILE *file) {
  int c = fgetc(file), number = -1;
  while (c == '#' || c == ' ' || c == '\n' || c == '\t' || c == '\r') {
    if (c == '#')
      while (c != '\n' && c != EOF) c = fgetc(file);
    c = fgetc(file);
  }
  for (; c >= '0' && c <= '9' && number < 100000; c = fgetc(file))
    number = (number < 0 ? 0 : number) * 10 + c - '0';
  return number;
}

int read_ppm(const char *path, Image *image) {
  FILE *file = fopen(path, "rb");
  if (!file) return 0;
  int magic = fgetc(file) == 'P' && fgetc(file) == '6';
  image->width = header_number(file);
  image->height = header_number(file);
  int levels = header_number(file);
  image->rgb = NULL;
  if (magic && image->width > 0 && image->height > 0 && levels == 255) {
    size_t bytes = (size_t)image->width * image->height * 3;
    image->rgb = malloc(bytes);
    if (image->rgb && fread(image->rgb, 1, bytes, file) != bytes) {
      free(image->rgb);
      image->rgb = NULL;
    }
  }
  fclose(file);
  return image->rgb != NULL;
}

/* A triangle as wide as the step from one output pixel to the next, so that every input pixel
 * counts: adds up `input` pixels, `stride` values apart, around output pixel `at`. */
static float sample(const float *input, int pixels, int stride, int at, float scale) {
  float reach = scale > 1 ? scale : 1, middle = (at + 0.5f) * scale, sum = 0, weights = 0;
  int first = (int)fmaxf(ceilf(middle - reach - 0.5f), 0);
  int last = (int)fminf(floorf(middle + reach - 0.5f), pixels - 1);
  for (int i = first; i <= last; i++) {
    float weight = fmaxf(1 - fabsf(i + 0.5f - middle) / reach, 0);
    sum += weight * input[(size_t)i * stride];
    weights += weight;
  }
  return sum / weights;
}

int center_view(const Image *image, float crop, int size, uint8_t *rgb) {
  int shorter = image->width < image->height ? image->width : image->height;
  int side = (int)fmaxf(rintf(shorter * crop), 1);
  int left = (image->width - side) / 2, top = (image->height - side) / 2;
  float scale = (float)side / size;
  float *row = malloc(sizeof(float) * side * 3);
  float *narrow = malloc(sizeof(float) * side * size * 3); /* (side, size, 3) */
  for (int y = 0; row && narrow && y < side; y++) {
    const uint8_t *line = image->rgb + ((size_t)(top + y) * image->width + left) * 3;
    for (int i = 0; i < side * 3; i++) row[i] = line[i];
    for (int x = 0; x < size; x++)
      for (int c = 0; c < 3; c++)
        narrow[((size_t)y * size + x) * 3 + c] = sample(row + c, side, 3, x, scale);
  }
  for (int y = 0; row && narrow && y < size; y++)
    for (int i = 0; i < size * 3; i++) {
      float value = sample(narrow + i, side, size * 3, y, scale);
      rgb[(size_t)y * size * 3 + i] = (uint8_t)fminf(fmaxf(rintf(value), 0), 255);
    }
  int done = row && narrow;
  free(row);
  free(narrow);
  return done;
}
