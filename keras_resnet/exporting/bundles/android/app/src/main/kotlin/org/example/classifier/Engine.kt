package org.example.classifier

import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator

/** The accelerator in use, and the reason if the GPU was chosen and cannot be used. */
data class Placement(val accelerator: Accelerator, val problem: String?)

/**
 * The model, on the GPU if the settings say so and the GPU can run it, otherwise on the CPU. Use it
 * from one thread only.
 */
class Engine(private val context: Context, private val settings: Settings) : AutoCloseable {
  private var classifier: Classifier? = null

  /** Loads the model as the settings say. Throws only if the CPU cannot run it either. */
  fun load(): Placement {
    close()
    val problem = if (settings.useGpu) tryGpu() else null
    if (problem != null) settings.useGpu = false
    val loaded = classifier ?: Classifier(context.assets, Accelerator.CPU, settings.threads)
    classifier = loaded
    return Placement(loaded.accelerator, problem)
  }

  /** Null if the GPU runs the model, otherwise the reason. */
  private fun tryGpu(): String? {
    val crashed = settings.gpuOnTrial
    settings.gpuOnTrial = !crashed
    if (crashed) return context.getString(R.string.gpu_crashed)
    return try {
      val onGpu = Classifier(context.assets, Accelerator.GPU)
      classifier = onGpu
      onGpu.classify(Bitmap.createBitmap(64, 64, Bitmap.Config.ARGB_8888))
      null
    } catch (error: Throwable) { // also a native library that is missing
      close()
      context.getString(R.string.gpu_failed, error.message ?: error.toString())
    } finally {
      settings.gpuOnTrial = false
    }
  }

  /** The best classes of an upright picture, best first; none if it is of none of the classes. */
  fun classify(bitmap: Bitmap): List<Answer> = checkNotNull(classifier).classify(bitmap)

  override fun close() {
    classifier?.close()
    classifier = null
  }
}
