package org.example.classifier

import kotlin.math.min

/** A rectangle in pixels. */
data class Area(val left: Float, val top: Float, val right: Float, val bottom: Float)

/** The part of a picture that is classified, where the picture fits into the middle of a view. */
fun classifiedArea(
  viewWidth: Int,
  viewHeight: Int,
  width: Int,
  height: Int,
  crop: Float = CENTER_CROP,
): Area {
  val scale = min(viewWidth.toFloat() / width, viewHeight.toFloat() / height)
  val half = min(width, height) * crop * scale / 2
  val (x, y) = viewWidth / 2f to viewHeight / 2f
  return Area(x - half, y - half, x + half, y + half)
}
