package org.example.classifier

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

// Preprocessing of a photo. Bitmap.createScaledBitmap cannot be used: it does not antialias, but the
// network was trained on antialiased images.

/** How a photo is fitted to the input of the network. */
enum class Fit {
  /** The centre part with the aspect ratio of the input is resized. */
  CROP,
  /** The whole photo is resized to fit, and padded with black. */
  PAD,
  /** Both sides are resized independently. */
  STRETCH,
}

/** The input of the network; 3 channels are RGB, 1 is luma. */
class Input(val height: Int, val width: Int, val channels: Int, val fit: Fit)

/**
 * A photo fitted to the input, on white: `height * width * channels` integers in 0..255.
 *
 * [argb] has the upright photo, row by row, as from Bitmap.getPixels. With [Fit.CROP], [crop] is the
 * share of the limiting side.
 */
fun centerView(
  argb: IntArray,
  width: Int,
  height: Int,
  input: Input = INPUT,
  crop: Float = CENTER_CROP,
): FloatArray {
  val (h, w) = part(height, width, input, crop)
  val (rows, columns) = resized(h, w, input)
  val left = (width - w) / 2
  val top = (height - h) / 2
  val across = List(columns) { Taps(it, w, columns) }
  val down = List(rows) { Taps(it, h, rows) }
  val row = FloatArray(w * 3)
  val narrow = FloatArray(h * columns * 3) // (h, columns, 3)
  for (y in 0 until h) {
    for (x in 0 until w) onWhite(argb[(top + y) * width + left + x], row, 3 * x)
    for (x in 0 until columns) for (c in 0..2) {
      narrow[(y * columns + x) * 3 + c] = across[x].sum(row, 3, c)
    }
  }
  val pixels = FloatArray(input.height * input.width * input.channels)
  val rgb = FloatArray(3)
  for (y in 0 until rows) for (x in 0 until columns) {
    for (c in 0..2) rgb[c] = round(down[y].sum(narrow, columns * 3, 3 * x + c)).coerceIn(0f, 255f)
    val line = (input.height - rows) / 2 + y
    val at = (line * input.width + (input.width - columns) / 2 + x) * input.channels
    if (input.channels == 3) rgb.copyInto(pixels, at) else pixels[at] = luma(rgb)
  }
  return pixels
}

/** Height and width of the centre part of a photo that is classified. */
internal fun part(height: Int, width: Int, input: Input, crop: Float): Pair<Int, Int> {
  if (input.fit != Fit.CROP) return height to width
  fun share(side: Int) = max(round(side * crop).toInt(), 1)
  fun other(side: Int, length: Int, whole: Int, most: Int) =
    ((side.toLong() * length + whole / 2) / whole).toInt().coerceIn(1, most)
  if (height.toLong() * input.width <= width.toLong() * input.height) {
    val h = share(height)
    return h to other(h, input.width, input.height, width)
  }
  val w = share(width)
  return other(w, input.height, input.width, height) to w
}

/** Height and width of that part after the resize. */
private fun resized(height: Int, width: Int, input: Input): Pair<Int, Int> {
  if (input.fit != Fit.PAD) return input.height to input.width
  val across = width.toFloat() * input.height
  val down = height.toFloat() * input.width
  if (down >= across) return input.height to (across / height + 0.5f).toInt().coerceIn(1, input.width)
  return (down / width + 0.5f).toInt().coerceIn(1, input.height) to input.width
}

private fun luma(rgb: FloatArray): Float {
  val (red, green, blue) = rgb.map { it.toInt() }
  return ((19595 * red + 38470 * green + 7471 * blue + 32768) shr 16).toFloat()
}

/** Weights of the input pixels of an output pixel: a triangle, two output steps wide. */
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
