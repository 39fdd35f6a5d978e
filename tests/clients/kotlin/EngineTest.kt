import android.content.Context
import android.content.SharedPreferences
import android.content.res.AssetManager
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.onGpu
import java.io.InputStream
import org.example.classifier.Engine
import org.example.classifier.R
import org.example.classifier.Settings
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue

/** The choice of the accelerator, with a GPU that works, fails, or ends the app. */
class EngineTest {
  private val phone = Phone()
  private val settings = Settings(phone)

  fun theModelRunsOnTheCpuUnlessTheUserChoosesTheGpu() {
    onGpu = { throw AssertionError("the GPU was tried") }
    assertEquals(Accelerator.CPU, Engine(phone, settings).load().accelerator)
  }

  fun aGpuThatRunsTheModelIsUsed() {
    onGpu = {}
    settings.useGpu = true
    val placement = Engine(phone, settings).load()
    assertEquals(Accelerator.GPU, placement.accelerator)
    assertEquals(null, placement.problem)
    assertTrue("still on trial", !settings.gpuOnTrial)
  }

  fun aGpuThatFailsLeavesItToTheCpuWithTheReason() {
    for (error in listOf(LiteRtException("no OpenCL"), UnsatisfiedLinkError("no OpenCL"))) {
      onGpu = { throw error }
      settings.useGpu = true
      val engine = Engine(phone, settings)
      val placement = engine.load()
      assertEquals(Accelerator.CPU, placement.accelerator)
      assertEquals("${R.string.gpu_failed}: no OpenCL", placement.problem)
      assertTrue("the GPU is chosen still", !settings.useGpu && !settings.gpuOnTrial)
      engine.classify(Bitmap(32, 32)) // without an error
    }
  }

  fun aGpuThatEndsTheAppIsNotTriedAgain() {
    settings.useGpu = true
    var diskAtTheEnd = mapOf<String, Any>()
    onGpu = { diskAtTheEnd = phone.disk.toMap() }
    Engine(phone, settings).load()
    onGpu = { throw AssertionError("the GPU was tried again") }
    val next = Phone(diskAtTheEnd)
    val placement = Engine(next, Settings(next)).load()
    assertEquals(Accelerator.CPU, placement.accelerator)
    assertEquals("${R.string.gpu_crashed}", placement.problem)
    assertEquals(null, Engine(next, Settings(next)).load().problem)
  }
}

private class Phone(disk: Map<String, Any> = mapOf()) : Context() {
  val disk = disk.toMutableMap()

  override val assets = object : AssetManager() {
    override fun open(name: String): InputStream = "zero\none\n".byteInputStream()
  }

  override fun getString(id: Int) = "$id"

  override fun getString(id: Int, vararg arguments: Any?) = "$id: ${arguments.joinToString()}"

  override fun getSharedPreferences(name: String, mode: Int) = object : SharedPreferences {
    override fun getBoolean(key: String, default: Boolean) = disk[key] as Boolean? ?: default

    override fun getInt(key: String, default: Int) = disk[key] as Int? ?: default

    override fun edit() = Changes()
  }

  private inner class Changes : SharedPreferences.Editor {
    private val changes = mutableMapOf<String, Any>()

    override fun putBoolean(key: String, value: Boolean) = apply { changes[key] = value }

    override fun putInt(key: String, value: Int) = apply { changes[key] = value }

    override fun commit() = true.also { disk += changes }
  }
}
