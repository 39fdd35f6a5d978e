package org.example.classifier

import android.content.res.AssetManager
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import kotlin.math.exp

data class Answer(val label: String, val score: Float)

/** The model and its labels, from the app's assets. Use it from one thread only. */
class Classifier(assets: AssetManager, accelerator: Accelerator) : AutoCloseable {
  val labels: List<String> =
    assets.open("labels.txt").use { it.readBytes().decodeToString() }.removeSuffix("\n").split("\n")

  private val model =
    CompiledModel.create(assets, "model.tflite", CompiledModel.Options(accelerator), null)
  private val inputs = model.createInputBuffers()
  private val outputs = model.createOutputBuffers()

  /** The best classes of an upright picture, best first; none if it is of none of the classes. */
  fun classify(bitmap: Bitmap, top: Int = 3): List<Answer> {
    val logits = logits(centerView(pixelsOf(bitmap), bitmap.width, bitmap.height))
    if (rejects(logits.toList())) return emptyList()
    val scores = softmax(logits)
    return scores.indices.sortedByDescending { scores[it] }.take(top).map { Answer(labels[it], scores[it]) }
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
