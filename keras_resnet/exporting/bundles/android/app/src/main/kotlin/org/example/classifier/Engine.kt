package org.example.classifier

import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator

/** The accelerator in use, and the reason if the chosen GPU cannot be used. */
data class Placement(val accelerator: Accelerator, val problem: String?)

/**
 * The model, on the GPU if it is chosen in the settings and can run the model, otherwise on the CPU.
 * Use it from one thread only.
 */
class Engine(private val context: Context, private val settings: Settings) : AutoCloseable {
  private var classifier: Classifier? = null
  val isTrainable = SPARE > 0

  /** The classes that were learned on this phone. */
  val learned: List<String>
    get() = classifier?.learned.orEmpty()

  /** Loads the model for the accelerator in the settings. Throws only if the CPU cannot run it. */
  fun load(): Placement {
    close()
    // LiteRT trains on the CPU only.
    val problem = if (settings.useGpu && !isTrainable) tryGpu() else null
    if (problem != null) settings.useGpu = false
    val folder = if (isTrainable) context.filesDir else null
    val loaded = classifier ?: Classifier(context.assets, Accelerator.CPU, settings.threads, folder)
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
    } catch (error: Throwable) { // includes UnsatisfiedLinkError
      close()
      context.getString(R.string.gpu_failed, error.message ?: error.toString())
    } finally {
      settings.gpuOnTrial = false
    }
  }

  /** The best classes of an upright picture, best first; empty if it is rejected. */
  fun classify(bitmap: Bitmap): List<Answer> = checkNotNull(classifier).classify(bitmap)

  /** The features of an upright picture, from which a trainable model learns. */
  fun features(bitmap: Bitmap): FloatArray = checkNotNull(classifier).features(bitmap)

  /** Learns a new class, or adds to one, from the features of about 20 pictures. */
  fun learn(label: String, photos: List<FloatArray>) = checkNotNull(classifier).learn(label, photos)

  fun forget() = checkNotNull(classifier).forget()

  override fun close() {
    classifier?.close()
    classifier = null
  }
}
