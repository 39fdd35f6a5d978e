package org.example.classifier

import android.content.res.AssetManager
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import java.io.File
import kotlin.math.exp

data class Answer(val label: String, val score: Float)

/**
 * The model and its labels, from the app's assets. Use it from one thread only.
 *
 * LiteRT gets one [accelerator], and fails if that cannot run the model. With GPU and CPU, it would
 * silently run on the CPU.
 *
 * The new classes of a trainable model are stored in [folder]; without one, it cannot learn any.
 */
class Classifier(
  assets: AssetManager,
  val accelerator: Accelerator,
  threads: Int = 1,
  folder: File? = null,
) : AutoCloseable {
  private val known: List<String> =
    assets.open("labels.txt").use { it.readBytes().decodeToString() }.removeSuffix("\n").split("\n")

  private val model =
    CompiledModel.create(
      assets,
      "model.tflite",
      CompiledModel.Options(accelerator).apply {
        if (accelerator == Accelerator.CPU) cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
      },
    )
  private val inputs = model.createInputBuffers()
  private val outputs = model.createOutputBuffers()
  private val learner = folder?.let { Learner(File(it, "new_classes"), call = ::call) }

  /** The known classes, then the learned ones. */
  val labels: List<String>
    get() = known + learned

  val learned: List<String>
    get() = learner?.labels.orEmpty()

  /** The best classes of an upright picture, best first; empty if it is rejected. */
  fun classify(bitmap: Bitmap, top: Int = 3): List<Answer> {
    val logits = logits(view(bitmap)).copyOf(labels.size)
    val isKnown = logits.indices.maxBy { logits[it] } < known.size
    if (isKnown && rejects(logits.take(known.size))) return emptyList() // for known classes only
    val scores = softmax(logits)
    return scores.indices.sortedByDescending { scores[it] }.take(top).map { Answer(labels[it], scores[it]) }
  }

  /** The features of an upright picture, from which a trainable model learns. */
  fun features(bitmap: Bitmap): FloatArray =
    call("infer", mapOf("image" to view(bitmap)), listOf("logits", "features")).getValue("features")

  /** Learns a new class, or adds to one, from the features of about 20 pictures. */
  fun learn(label: String, photos: List<FloatArray>) {
    require(label !in known) { "the model already knows $label" }
    checkNotNull(learner).learn(label, photos)
  }

  fun forget() = checkNotNull(learner).forget()

  private fun view(bitmap: Bitmap) = centerView(pixelsOf(bitmap), bitmap.width, bitmap.height)

  private fun call(
    signature: String,
    inputs: Map<String, FloatArray>,
    outputs: List<String>,
  ): Map<String, FloatArray> {
    val given = inputs.mapValues { (name, values) ->
      model.createInputBuffer(name, signature).apply { writeFloat(values) }
    }
    val results = outputs.associateWith { model.createOutputBuffer(it, signature) }
    try {
      model.run(given, results, signature)
      return results.mapValues { it.value.readFloat() }
    } finally {
      (given.values + results.values).forEach { it.close() }
    }
  }

  /** The logits of [pixels] in 0..255; the model normalizes them itself. */
  fun logits(pixels: FloatArray): FloatArray {
    inputs[0].writeFloat(pixels)
    model.run(inputs, outputs)
    return outputs[0].readFloat()
  }

  override fun close() {
    inputs.forEach { it.close() }
    outputs.forEach { it.close() }
    model.close()
  }
}

fun pixelsOf(bitmap: Bitmap): IntArray {
  val argb = IntArray(bitmap.width * bitmap.height)
  bitmap.getPixels(argb, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
  return argb
}

private fun softmax(logits: FloatArray): FloatArray {
  val most = logits.max()
  val powers = FloatArray(logits.size) { exp(logits[it] - most) }
  val sum = powers.sum()
  return FloatArray(logits.size) { powers[it] / sum }
}
