/* Classifies images:  classify FOLDER IMAGE.ppm ...   prints the best class of each
 *                     classify FOLDER --check         runs the golden set
 * FOLDER contains model.tflite, labels.txt and golden/. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "image.h"
#include "litert.h"

enum { PIXELS = HEIGHT * WIDTH * CHANNELS, LABEL = 1024, LINE = 1024 + 24 * CLASSES };

static LiteRtCompiledModel compiled;
static LiteRtTensorBuffer input, output;

static void fail(const char *what, const char *which) {
  fprintf(stderr, "classify: %s%s\n", what, which);
  exit(2);
}

static void need(int status, const char *call) {
  if (status != 0) fail("LiteRT 2.3.0: error in ", call);
}
#define NEED(call) need(call, #call)

static FILE *open_in(const char *folder, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "r");
  if (!file) fail("cannot read ", path);
  return file;
}

static void need_floats(const LiteRtRankedTensorType *type, int count, const char *which) {
  int values = 1;
  for (unsigned i = 0; i < type->layout.rank; i++) values *= type->layout.dimensions[i];
  if (type->element_type != kLiteRtElementTypeFloat32 || values != count)
    fail("model.tflite does not match contract.h: ", which);
}

static void load_model(const char *folder) {
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtSignature signature;
  LiteRtTensor tensor;
  LiteRtRankedTensorType type;
  LiteRtTensorBufferRequirements requirements;
  char path[4096];
  snprintf(path, sizeof path, "%s/model.tflite", folder);
  fclose(open_in(folder, "model.tflite"));
  NEED(LiteRtCreateEnvironment(0, NULL, &environment));
  NEED(LiteRtCreateModelFromFile(environment, path, &model));
  NEED(LiteRtCreateOptions(&options));
  NEED(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu));
  NEED(LiteRtCreateCompiledModel(environment, model, options, &compiled));
  NEED(LiteRtGetModelSignature(model, 0, &signature));

  NEED(LiteRtGetSignatureInputTensorByIndex(signature, 0, &tensor));
  NEED(LiteRtGetRankedTensorType(tensor, &type));
  need_floats(&type, PIXELS, "its input");
  NEED(LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, 0, &requirements));
  NEED(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, requirements, &input));

  NEED(LiteRtGetSignatureOutputTensorByIndex(signature, 0, &tensor));
  NEED(LiteRtGetRankedTensorType(tensor, &type));
  need_floats(&type, CLASSES, "its output");
  NEED(LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, 0, &requirements));
  NEED(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, requirements, &output));
}

/* Raw pixels in, logits out; the model normalizes the pixels itself. */
static void run(const uint8_t *pixels, float *logits) {
  void *memory;
  NEED(LiteRtLockTensorBuffer(input, &memory, kLiteRtLockWrite));
  for (int i = 0; i < PIXELS; i++) ((float *)memory)[i] = pixels[i];
  NEED(LiteRtUnlockTensorBuffer(input));
  NEED(LiteRtRunCompiledModel(compiled, 0, 1, &input, 1, &output));
  NEED(LiteRtLockTensorBuffer(output, &memory, kLiteRtLockRead));
  memcpy(logits, memory, sizeof(float) * CLASSES);
  NEED(LiteRtUnlockTensorBuffer(output));
}

static int best_of(const float *values) {
  int best = 0;
  for (int k = 1; k < CLASSES; k++)
    if (values[k] > values[best]) best = k;
  return best;
}

/* Whether an image with these logits is rejected as "none of these". */
static int rejects(const float *logits) {
  int best = best_of(logits), second = best == 0;
  double sum = 0;
  for (int k = 0; k < CLASSES; k++) {
    if (k != best && logits[k] > logits[second]) second = k;
    sum += exp((double)logits[k] - logits[best]);
  }
  double energy = logits[best] + log(sum);
  if (energy > REJECT_MOST_ENERGY) return 1;
  switch (REJECT_SCORE) {
    case PROBABILITY: return 1 / sum < REJECT_THRESHOLD;
    case ENERGY: return energy < REJECT_THRESHOLD;
    case MARGIN: return logits[best] - logits[second] < REJECT_THRESHOLD;
    default: return 0;
  }
}

static void view(const char *path, float crop, uint8_t *pixels) {
  Image image;
  if (!read_ppm(path, &image)) fail("no such file, or not a binary PPM file with 255 levels: ", path);
  const Geometry input_size = {HEIGHT, WIDTH, CHANNELS, FIT};
  if (!center_view(&image, &input_size, crop, pixels)) fail("out of memory for ", path);
  free(image.rgb);
}

static void classify(const char *path, char labels[CLASSES][LABEL]) {
  static uint8_t pixels[PIXELS];
  float logits[CLASSES], sum = 0;
  view(path, CENTER_CROP, pixels);
  run(pixels, logits);
  if (rejects(logits)) {
    printf("%s  none of these\n", path);
    return;
  }
  int best = best_of(logits);
  for (int k = 0; k < CLASSES; k++) sum += expf(logits[k] - logits[best]);
  printf("%s  %s %.1f%%\n", path, labels[best], 100 / sum);
}

static void read_labels(const char *folder, char labels[CLASSES][LABEL]) {
  FILE *file = open_in(folder, "labels.txt");
  for (int k = 0; k < CLASSES; k++) {
    if (!fgets(labels[k], LABEL, file)) fail("too few lines in labels.txt of ", folder);
    labels[k][strcspn(labels[k], "\n")] = 0;
  }
  fclose(file);
}

/* Whether errors of the logits up to the tolerance cannot change the best class. */
static int is_clear(const float *values, float tolerance) {
  int best = best_of(values);
  for (int k = 0; k < CLASSES; k++)
    if (k != best && values[best] - values[k] <= 2 * tolerance) return 0;
  return 1;
}

/* golden.txt: the two tolerances and the sha256 of the logits, or "-" for a model that is not
 * computed in integers; then one line per image: its file, its photo or "-", whether it is
 * rejected (1, 0, or -1 if uncertain), logits. */
static int check(const char *folder) {
  static char line[LINE];
  static uint8_t pixels[PIXELS], own[PIXELS];
  char file_name[256], photo_name[256], path[4096], sha256[65];
  float tolerance, photo_tolerance, expected[CLASSES], logits[CLASSES], worst = 0, furthest = 0;
  int images = 0, photos = 0, failed = 0, others = 0;
  FILE *file = open_in(folder, "golden/golden.txt");
  if (fscanf(file, "%f %f %64s ", &tolerance, &photo_tolerance, sha256) != 3)
    fail("damaged: ", "golden.txt");
  while (fgets(line, LINE, file)) {
    int used, rejected, good = 1;
    if (sscanf(line, "%255s %255s %d%n", file_name, photo_name, &rejected, &used) != 3) continue;
    char *rest = line + used;
    for (int k = 0; k < CLASSES; k++) expected[k] = strtof(rest, &rest);

    snprintf(path, sizeof path, "%s/golden/%s", folder, file_name);
    view(path, 1, pixels); /* already has the size of the input */
    run(pixels, logits);
    for (int k = 0; k < CLASSES; k++) {
      float distance = fabsf(logits[k] - expected[k]);
      good &= distance <= tolerance;
      worst = fmaxf(worst, distance);
      others += logits[k] != expected[k];
    }
    if (rejected >= 0) good &= rejects(logits) == rejected;
    if (strcmp(photo_name, "-") != 0) {
      double difference = 0;
      snprintf(path, sizeof path, "%s/golden/%s", folder, photo_name);
      view(path, CENTER_CROP, own);
      run(own, logits);
      for (int i = 0; i < PIXELS; i++) difference += abs(own[i] - pixels[i]);
      difference /= PIXELS;
      good &= difference <= photo_tolerance;
      if (rejected >= 0) good &= rejects(logits) == rejected;
      if (is_clear(expected, tolerance)) good &= best_of(logits) == best_of(expected);
      furthest = fmaxf(furthest, (float)difference);
      photos++;
    }
    if (!good) fprintf(stderr, "%s: NOT as expected\n", file_name);
    failed += !good;
    images++;
  }
  fclose(file);
  printf("%d of %d images as expected\n", images - failed, images);
  printf("logits within %.2g, %.2g allowed\n", worst, tolerance);
  if (sha256[1] && others) printf("%d outputs differ from the export: other kernels\n", others);
  if (sha256[1] && !others) printf("outputs have sha256 %.16s..., same as at export\n", sha256);
  printf("pixels of %d photos within %.2g levels on average, %g allowed\n", photos, furthest,
         photo_tolerance);
  return failed > 0 || images == 0;
}

int main(int count, char **arguments) {
  static char labels[CLASSES][LABEL];
  if (count < 3) fail("usage: classify FOLDER IMAGE.ppm ... | FOLDER --check", "");
  load_model(arguments[1]);
  read_labels(arguments[1], labels);
  if (strcmp(arguments[2], "--check") == 0) return check(arguments[1]);
  for (int i = 2; i < count; i++) classify(arguments[i], labels);
  return 0;
}
