package org.example.classifier

import androidx.test.platform.app.InstrumentationRegistry
import com.google.ai.edge.litert.Accelerator
import java.security.MessageDigest
import kotlin.math.abs
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** The golden set on the device: tests the runtime, and the app's own preprocessing. */
class GoldenTest {
  private val test = InstrumentationRegistry.getInstrumentation()
  private val golden = JSONObject(read("golden.json").decodeToString())
  private val images = golden.getJSONArray("images").let { all ->
    List(all.length()) { all.getJSONObject(it) }
  }
  private val classifier = Classifier(test.targetContext.assets, Accelerator.CPU)

  @Test
  fun theModelAnswersAsItDidWhenItWasExported() {
    val tolerance = golden.getJSONObject("tolerance").getDouble("model.tflite")
    var others = 0
    for (image in images) {
      val pixels = view(image.getString("file"), crop = 1f)
      assertEquals(image.getString("sha256"), sha256(pixels))
      val logits = classifier.logits(pixels).toList()
      logits.zip(expected(image)) { logit, wanted ->
        assertTrue("${image.getString("file")}: $logit, not $wanted", abs(logit - wanted) <= tolerance)
        if (logit != wanted) others++
      }
      checkRejected(image, logits)
    }
    val hashes = golden.getJSONObject("answers_sha256") // of a model that is computed in integers
    if (!hashes.isNull("model.tflite")) {
      val hash = hashes.getString("model.tflite").take(16)
      println(
        if (others == 0) "outputs have sha256 $hash…, same as at export"
        else "$others outputs differ from the export: other kernels"
      )
    }
  }

  @Test
  fun photosAreDecodedAndResizedAsForTheTraining() {
    val tolerance = golden.getDouble("photo_tolerance")
    val ofLogits = golden.getJSONObject("tolerance").getDouble("model.tflite")
    for (image in images.filterNot { it.isNull("photo") }) {
      val pixels = view(image.getString("file"), crop = 1f)
      val own = view(image.getString("photo"), CENTER_CROP)
      val difference = own.indices.map { abs(own[it] - pixels[it]) }.average()
      assertTrue("${image.getString("photo")}: $difference levels", difference <= tolerance)
      val wanted = expected(image)
      val logits = classifier.logits(own).toList()
      if (isClear(wanted, ofLogits)) assertEquals(best(wanted), best(logits))
      checkRejected(image, logits)
    }
  }

  private fun read(file: String) = test.context.assets.open("golden/$file").use { it.readBytes() }

  private fun view(file: String, crop: Float): FloatArray {
    val bitmap = checkNotNull(decodePhoto(read(file))) { "$file is no picture" }
    return centerView(pixelsOf(bitmap), bitmap.width, bitmap.height, crop = crop)
  }

  private fun expected(image: JSONObject): List<Float> {
    val logits = image.getJSONObject("logits").getJSONArray("model.tflite")
    return List(logits.length()) { logits.getDouble(it).toFloat() }
  }

  /** Whether the image is rejected; null in the golden set: uncertain, not compared. */
  private fun checkRejected(image: JSONObject, logits: List<Float>) {
    val wanted = image.getJSONObject("rejected")
    if (wanted.isNull("model.tflite")) return
    assertEquals(wanted.getBoolean("model.tflite"), rejects(logits))
  }

  /** Whether errors of the logits up to the tolerance cannot change the best class. */
  private fun isClear(logits: List<Float>, tolerance: Double): Boolean {
    val (first, second) = logits.sortedDescending()
    return first - second > 2 * tolerance
  }

  private fun best(logits: List<Float>) = logits.indices.maxByOrNull { logits[it] }

  private fun sha256(pixels: FloatArray): String {
    val bytes = ByteArray(pixels.size) { pixels[it].toInt().toByte() }
    val digest = MessageDigest.getInstance("SHA-256").digest(bytes)
    return digest.joinToString("") { "%02x".format(it) }
  }
}
