package org.example.classifier

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import androidx.exifinterface.media.ExifInterface
import java.io.ByteArrayInputStream

private const val MOST_PIXELS = 12_000_000 // four bytes each, and a few copies

/**
 * Decodes a photo and applies its EXIF orientation; null if it is not a picture. Very large photos are
 * decoded at a half or a quarter of their size.
 */
fun decodePhoto(encoded: ByteArray): Bitmap? {
  val options = BitmapFactory.Options().apply { inJustDecodeBounds = true }
  BitmapFactory.decodeByteArray(encoded, 0, encoded.size, options)
  val pixels = options.outWidth.toLong() * options.outHeight
  options.inSampleSize = 1
  while (pixels / options.inSampleSize / options.inSampleSize > MOST_PIXELS) options.inSampleSize *= 2
  options.inJustDecodeBounds = false
  val stored = BitmapFactory.decodeByteArray(encoded, 0, encoded.size, options) ?: return null
  val exif = ExifInterface(ByteArrayInputStream(encoded))
  return turned(stored, exif.rotationDegrees, exif.isFlipped)
}

/** [bitmap], mirrored if [mirrored], then rotated clockwise by [degrees]. */
fun turned(bitmap: Bitmap, degrees: Int, mirrored: Boolean = false): Bitmap {
  if (degrees == 0 && !mirrored) return bitmap
  val turn = Matrix()
  if (mirrored) turn.postScale(-1f, 1f)
  turn.postRotate(degrees.toFloat())
  return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, turn, false)
}
