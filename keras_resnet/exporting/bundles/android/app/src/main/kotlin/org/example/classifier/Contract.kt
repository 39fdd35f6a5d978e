package org.example.classifier

// From preprocess.json of the export.
val INPUT = Input({{height}}, {{width}}, channels = {{channels}}, Fit.{{fit_c}})
const val CENTER_CROP = {{center_crop}}f // with CROP: centre share of the photo

// For a trainable model: the number of outputs for new classes (otherwise 0), the number of epochs on
// their photos, and the model that stored classes belong to.
const val SPARE = {{spare}}
const val PASSES = {{passes}}
const val MODEL_SHA256 = "{{sha256}}"

// An image is rejected if this score is below the threshold, or its energy is above the limit; without
// a score, no image is rejected.
const val REJECT_SCORE = "{{reject_score}}"
const val REJECT_THRESHOLD = {{reject_threshold}}
const val REJECT_MOST_ENERGY = {{reject_most_energy}}
