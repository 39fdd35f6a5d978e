package org.example.classifier

// From preprocess.json of the export.
const val IMAGE_SIZE = {{image_size}}
const val CENTER_CROP = {{center_crop}}f // the middle square, as a share of the shorter side

// Below the threshold of this score, or with more energy, an image is of none of the classes; without
// a score, no image is.
const val REJECT_SCORE = "{{reject_score}}"
const val REJECT_THRESHOLD = {{reject_threshold}}
const val REJECT_MOST_ENERGY = {{reject_most_energy}}
