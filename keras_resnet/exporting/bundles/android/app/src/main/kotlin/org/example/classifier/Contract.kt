package org.example.classifier

// From preprocess.json of the export.
const val IMAGE_SIZE = {{image_size}}
const val CENTER_CROP = {{center_crop}}f // the middle square, as a share of the shorter side
