// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.graphics

/** All black: enough for tests. */
class Bitmap(val width: Int, val height: Int) {
  enum class Config { ARGB_8888 }

  val config: Config? = Config.ARGB_8888

  fun setColorSpace(colorSpace: ColorSpace): Unit = TODO()

  fun getPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int): Unit =
    pixels.fill(0xFF000000.toInt())

  companion object {
    fun createBitmap(width: Int, height: Int, config: Config) = Bitmap(width, height)

    fun createBitmap(
      source: Bitmap, x: Int, y: Int, width: Int, height: Int, matrix: Matrix?, filter: Boolean,
    ): Bitmap = TODO()
  }
}

object BitmapFactory {
  class Options {
    var inJustDecodeBounds = false
    var inSampleSize = 1
    var outWidth = 0
    var outHeight = 0
    var outMimeType: String? = null
  }

  fun decodeByteArray(data: ByteArray, offset: Int, length: Int): Bitmap? = TODO()

  fun decodeByteArray(data: ByteArray, offset: Int, length: Int, options: Options?): Bitmap? = TODO()
}

class Matrix {
  fun postScale(x: Float, y: Float): Boolean = TODO()

  fun postRotate(degrees: Float): Boolean = TODO()
}

object Color {
  const val BLACK = -0x1000000
}

abstract class ColorSpace {
  enum class Named { SRGB }

  companion object {
    fun get(name: Named): ColorSpace = TODO()
  }
}

class Canvas() {
  constructor(bitmap: Bitmap) : this()

  fun drawColor(color: Int): Unit = TODO()

  fun drawBitmap(bitmap: Bitmap, left: Float, top: Float, paint: Paint?): Unit = TODO()

  fun drawRect(left: Float, top: Float, right: Float, bottom: Float, paint: Paint): Unit = TODO()
}

class Paint {
  enum class Style { STROKE }

  var style: Style
    get() = TODO()
    set(value) = TODO()
  var color: Int
    get() = TODO()
    set(value) = TODO()
  var strokeWidth: Float
    get() = TODO()
    set(value) = TODO()
}
