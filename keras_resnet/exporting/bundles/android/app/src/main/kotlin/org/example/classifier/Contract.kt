package org.example.classifier

// From preprocess.json of the export.
val INPUT = Input({{height}}, {{width}}, channels = {{channels}}, Fit.{{fit_c}})
const val CENTER_CROP = {{center_crop}}f // with CROP: share of the photo in its middle

// Below the threshold of this score, or with more energy, an image is of none of the classes; without
// a score, no image is.
const val REJECT_SCORE = "{{reject_score}}"
const val REJECT_THRESHOLD = {{reject_threshold}}
const val REJECT_MOST_ENERGY = {{reject_most_energy}}
