// An instrumented test for an app's src/androidTest: the golden set on the device.
// Copy this folder to src/androidTest/assets/golden, and the model, with float inputs and outputs, into
// src/main/assets.

import android.graphics.BitmapFactory
import androidx.test.platform.app.InstrumentationRegistry
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import java.security.MessageDigest
import kotlin.math.abs
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class GoldenTest {
  private val test = InstrumentationRegistry.getInstrumentation()
  private val golden = JSONObject(read("golden.json").decodeToString())

  @Test
  fun everyFileAnswersAsItDidWhenItWasExported() {
    val tolerances = golden.getJSONObject("tolerance")
    for (name in tolerances.keys()) {
      if (name !in test.targetContext.assets.list("").orEmpty()) continue
      val options = CompiledModel.Options(Accelerator.CPU)
      val model = CompiledModel.create(test.targetContext.assets, name, options)
      val (inputs, outputs) = model.createInputBuffers() to model.createOutputBuffers()
      val images = golden.getJSONArray("images")
      for (i in 0 until images.length()) {
        val image = images.getJSONObject(i)
        val bytes = pixels(image.getString("file"))
        assertEquals(image.getString("sha256"), sha256(bytes))
        inputs[0].writeFloat(FloatArray(bytes.size) { (bytes[it].toInt() and 255).toFloat() })
        model.run(inputs, outputs)
        val expected = image.getJSONObject("logits").getJSONArray(name)
        val logits = outputs[0].readFloat() // for a trainable file, including new classes
        for (k in 0 until expected.length()) {
          val distance = abs(logits[k] - expected.getDouble(k))
          assertTrue("$name, image $i", distance <= tolerances.getDouble(name))
        }
      }
      model.close()
    }
  }

  private fun read(file: String) = test.context.assets.open("golden/$file").use { it.readBytes() }

  /** The RGB or grey bytes of a PNG, row by row. */
  private fun pixels(file: String): ByteArray {
    val png = read(file)
    val bitmap = checkNotNull(BitmapFactory.decodeByteArray(png, 0, png.size)) { "$file is no PNG" }
    val argb = IntArray(bitmap.width * bitmap.height)
    bitmap.getPixels(argb, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
    val channels = golden.getInt("channels")
    return ByteArray(channels * argb.size) { (argb[it / channels] shr (16 - 8 * (it % channels))).toByte() }
  }

  private fun sha256(bytes: ByteArray) =
    MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }
}
