// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.graphics

class Bitmap {
  val width: Int get() = TODO()
  val height: Int get() = TODO()

  fun getPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int): Unit =
    TODO()

  companion object {
    fun createBitmap(
      source: Bitmap, x: Int, y: Int, width: Int, height: Int, matrix: Matrix?, filter: Boolean,
    ): Bitmap = TODO()
  }
}

object BitmapFactory {
  fun decodeByteArray(data: ByteArray, offset: Int, length: Int): Bitmap? = TODO()
}

class Matrix {
  fun postScale(x: Float, y: Float): Boolean = TODO()

  fun postRotate(degrees: Float): Boolean = TODO()
}
