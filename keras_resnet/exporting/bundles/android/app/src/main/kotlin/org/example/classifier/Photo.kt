package org.example.classifier

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.ColorSpace
import android.graphics.Matrix
import android.os.Build
import androidx.exifinterface.media.ExifInterface
import java.io.ByteArrayInputStream

private const val LEAST_SIDE = 1080 // in pixels, for the display
private const val PER_PIXEL = 8 // decoded pixels per pixel of the model's input, in each direction
private const val MOST_PIXELS = 12_000_000 // limits the memory: four bytes each, and a few copies

/**
 * Decodes a photo and applies its EXIF orientation; null if it is not a picture. A large photo is
 * decoded at a fraction of its size.
 */
fun decodePhoto(encoded: ByteArray): Bitmap? {
  val options = BitmapFactory.Options().apply { inJustDecodeBounds = true }
  BitmapFactory.decodeByteArray(encoded, 0, encoded.size, options)
  options.inSampleSize = sampleSize(options.outWidth, options.outHeight)
  options.inJustDecodeBounds = false
  val decoded = BitmapFactory.decodeByteArray(encoded, 0, encoded.size, options) ?: return null
  val stored = if (options.outMimeType == "image/gif") onBlack(decoded) else decoded
  ignoreProfile(stored)
  val exif = ExifInterface(ByteArrayInputStream(encoded))
  return turned(stored, exif.rotationDegrees, exif.isFlipped)
}

/** Transparent pixels of a GIF become black, as in the training; those of others become white. */
private fun onBlack(bitmap: Bitmap): Bitmap {
  val opaque = Bitmap.createBitmap(bitmap.width, bitmap.height, Bitmap.Config.ARGB_8888)
  val canvas = Canvas(opaque)
  canvas.drawColor(Color.BLACK)
  canvas.drawBitmap(bitmap, 0f, 0f, null)
  return opaque
}

/** Takes the numbers in the file as sRGB, as the training does: getPixels would convert them. */
private fun ignoreProfile(bitmap: Bitmap) {
  if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q && bitmap.config == Bitmap.Config.ARGB_8888) {
    bitmap.setColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
  }
}

/** The factor, 1, 2, 4 …, by which a photo is reduced while it is decoded. */
fun sampleSize(width: Int, height: Int, input: Input = INPUT): Int {
  val least = maxOf(LEAST_SIDE, PER_PIXEL * maxOf(input.width, input.height))
  val pixels = width.toLong() * height
  var size = 1
  while (minOf(width, height) / (2 * size) >= least || pixels / size / size > MOST_PIXELS) size *= 2
  return size
}

/** [bitmap], mirrored if [mirrored], then rotated clockwise by [degrees]. */
fun turned(bitmap: Bitmap, degrees: Int, mirrored: Boolean = false): Bitmap {
  if (degrees == 0 && !mirrored) return bitmap
  val turn = Matrix()
  if (mirrored) turn.postScale(-1f, 1f)
  turn.postRotate(degrees.toFloat())
  return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, turn, false)
}
