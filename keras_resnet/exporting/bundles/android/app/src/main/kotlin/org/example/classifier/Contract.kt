package org.example.classifier

// From preprocess.json of the export.
val INPUT = Input({{height}}, {{width}}, channels = {{channels}}, Fit.{{fit_c}})
const val CENTER_CROP = {{center_crop}}f // with CROP: share of the photo in its middle

// Of a trainable model: outputs for new classes, 0 of any other; how often all photos of new classes are
// learned; and the model, which alone knows what it learned.
const val SPARE = {{spare}}
const val PASSES = {{passes}}
const val MODEL_SHA256 = "{{sha256}}"

// Below the threshold of this score, or with more energy, an image is of none of the classes; without
// a score, no image is.
const val REJECT_SCORE = "{{reject_score}}"
const val REJECT_THRESHOLD = {{reject_threshold}}
const val REJECT_MOST_ENERGY = {{reject_most_energy}}
