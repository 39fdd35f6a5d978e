package org.example.classifier

import kotlin.math.min

/** A rectangle in pixels. */
data class Area(val left: Float, val top: Float, val right: Float, val bottom: Float)

/** The part of a picture that is classified, in a view that shows the picture centred and whole. */
fun classifiedArea(
  viewWidth: Int,
  viewHeight: Int,
  width: Int,
  height: Int,
  input: Input = INPUT,
  crop: Float = CENTER_CROP,
): Area {
  val scale = min(viewWidth.toFloat() / width, viewHeight.toFloat() / height)
  val (h, w) = part(height, width, input, crop)
  val (x, y) = viewWidth / 2f to viewHeight / 2f
  val (across, down) = w * scale / 2 to h * scale / 2
  return Area(x - across, y - down, x + across, y + down)
}
