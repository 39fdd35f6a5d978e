#include "image.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Weighted sum of input pixels, `stride` values apart, around output pixel `at`. The weights are a
 * triangle, two output steps wide, so that every input pixel counts. */
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

static int clamp(long long value, int most) {
  return value < 1 ? 1 : value > most ? most : (int)value;
}

static int share(int side, float crop) { return (int)fmaxf(rintf(side * crop), 1); }

/* The part of the photo that is classified. */
static void part(const Image *image, const Geometry *input, float crop, int *height, int *width) {
  long long w = image->width, h = image->height;
  *height = image->height;
  *width = image->width;
  if (input->fit != CROP) return;
  if (h * input->width <= w * input->height) {
    *height = share(image->height, crop);
    *width = clamp(((long long)*height * input->width + input->height / 2) / input->height,
                   image->width);
  } else {
    *width = share(image->width, crop);
    *height = clamp(((long long)*width * input->height + input->width / 2) / input->width,
                    image->height);
  }
}

/* The size of that part after the resize. */
static void resized(const Geometry *input, int height, int width, int *rows, int *columns) {
  float across = (float)width * input->height, down = (float)height * input->width;
  *rows = input->height;
  *columns = input->width;
  if (input->fit != PAD) return;
  if (down >= across)
    *columns = clamp((long long)(across / height + 0.5f), input->width);
  else
    *rows = clamp((long long)(down / width + 0.5f), input->height);
}

static uint8_t level(float value) { return (uint8_t)fminf(fmaxf(rintf(value), 0), 255); }

int center_view(const Image *image, const Geometry *input, float crop, uint8_t *pixels) {
  int height, width, rows, columns;
  part(image, input, crop, &height, &width);
  resized(input, height, width, &rows, &columns);
  int left = (image->width - width) / 2, top = (image->height - height) / 2;
  int before = (input->width - columns) / 2, above = (input->height - rows) / 2;
  float across = (float)width / columns, down = (float)height / rows;
  float *row = malloc(sizeof(float) * width * 3);
  float *narrow = malloc(sizeof(float) * height * columns * 3); /* (height, columns, 3) */
  for (int y = 0; row && narrow && y < height; y++) {
    const uint8_t *line = image->rgb + ((size_t)(top + y) * image->width + left) * 3;
    for (int i = 0; i < width * 3; i++) row[i] = line[i];
    for (int x = 0; x < columns; x++)
      for (int c = 0; c < 3; c++)
        narrow[((size_t)y * columns + x) * 3 + c] = sample(row + c, width, 3, x, across);
  }
  memset(pixels, 0, (size_t)input->height * input->width * input->channels);
  for (int y = 0; row && narrow && y < rows; y++)
    for (int x = 0; x < columns; x++) {
      uint8_t rgb[3];
      for (int c = 0; c < 3; c++)
        rgb[c] = level(sample(narrow + x * 3 + c, height, columns * 3, y, down));
      uint8_t *at = pixels + ((size_t)(above + y) * input->width + before + x) * input->channels;
      if (input->channels == 3)
        memcpy(at, rgb, 3);
      else
        *at = (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16);
    }
  int done = row && narrow;
  free(row);
  free(narrow);
  return done;
}
