package org.example.classifier

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

// Preprocessing of a photo. It does not use Bitmap.createScaledBitmap, which does not antialias: the
// network was trained on antialiased images.

/**
 * The middle square, resized, on white: `size * size * 3` values, RGB, whole numbers in 0..255.
 *
 * [argb] holds the upright photo, row by row, as Bitmap.getPixels gives it.
 */
fun centerView(
  argb: IntArray,
  width: Int,
  height: Int,
  size: Int = IMAGE_SIZE,
  crop: Float = CENTER_CROP,
): FloatArray {
  val side = max(round(min(width, height) * crop).toInt(), 1)
  val left = (width - side) / 2
  val top = (height - side) / 2
  val taps = List(size) { Taps(it, side, size) }
  val row = FloatArray(side * 3)
  val narrow = FloatArray(side * size * 3) // (side, size, 3)
  for (y in 0 until side) {
    for (x in 0 until side) onWhite(argb[(top + y) * width + left + x], row, 3 * x)
    for (x in 0 until size) for (c in 0..2) {
      narrow[(y * size + x) * 3 + c] = taps[x].sum(row, 3, c)
    }
  }
  return FloatArray(size * size * 3) { i ->
    val (y, column) = i / (size * 3) to i % (size * 3)
    round(taps[y].sum(narrow, size * 3, column)).coerceIn(0f, 255f)
  }
}

/** The input pixels under a triangle as wide as the step from one output pixel to the next. */
private class Taps(at: Int, side: Int, size: Int) {
  private val first: Int
  private val weights: FloatArray

  init {
    val scale = side.toFloat() / size
    val reach = max(scale, 1f)
    val middle = (at + 0.5f) * scale
    first = max(ceil(middle - reach - 0.5f).toInt(), 0)
    val last = min(floor(middle + reach - 0.5f).toInt(), side - 1)
    val raw = FloatArray(last - first + 1) { max(1 - abs(first + it + 0.5f - middle) / reach, 0f) }
    val sum = raw.sum()
    weights = FloatArray(raw.size) { raw[it] / sum }
  }

  fun sum(values: FloatArray, stride: Int, offset: Int): Float {
    var sum = 0f
    for (i in weights.indices) sum += weights[i] * values[(first + i) * stride + offset]
    return sum
  }
}

private fun onWhite(argb: Int, target: FloatArray, at: Int) {
  val alpha = argb ushr 24
  for (c in 0..2) {
    val level = argb shr (16 - 8 * c) and 255
    target[at + c] = ((level * alpha + 255 * (255 - alpha) + 127) / 255).toFloat()
  }
}
