// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package androidx.camera.core

import android.graphics.Bitmap
import androidx.camera.core.resolutionselector.ResolutionSelector
import java.util.concurrent.Executor

abstract class UseCase

class CameraSelector {
  companion object {
    val DEFAULT_BACK_CAMERA: CameraSelector get() = TODO()
    val DEFAULT_FRONT_CAMERA: CameraSelector get() = TODO()
  }
}

interface Camera

interface ImageInfo {
  val rotationDegrees: Int
}

interface ImageProxy : AutoCloseable {
  val imageInfo: ImageInfo

  fun toBitmap(): Bitmap
}

class Preview : UseCase() {
  interface SurfaceProvider

  class Builder {
    fun setResolutionSelector(selector: ResolutionSelector): Builder = TODO()

    fun build(): Preview = TODO()
  }

  fun setSurfaceProvider(provider: SurfaceProvider?): Unit = TODO()
}

class ImageAnalysis : UseCase() {
  var targetRotation: Int
    get() = TODO()
    set(value) = TODO()

  fun interface Analyzer {
    fun analyze(image: ImageProxy)
  }

  class Builder {
    fun setResolutionSelector(selector: ResolutionSelector): Builder = TODO()

    fun setBackpressureStrategy(strategy: Int): Builder = TODO()

    fun setOutputImageFormat(format: Int): Builder = TODO()

    fun build(): ImageAnalysis = TODO()
  }

  fun setAnalyzer(executor: Executor, analyzer: Analyzer): Unit = TODO()

  companion object {
    const val STRATEGY_KEEP_ONLY_LATEST = 0
    const val OUTPUT_IMAGE_FORMAT_RGBA_8888 = 2
  }
}
