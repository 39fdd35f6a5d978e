// A stub: only what the app uses, with the signatures of the real thing. In its place stands a network
// of two classes, and a GPU that does what a test says.
// litert/kotlin/src/main/kotlin/com/google/ai/edge/litert in LiteRT's repository.
package com.google.ai.edge.litert

import android.content.res.AssetManager

/** What happens on the GPU: by default, nothing. */
var onGpu: () -> Unit = {}

enum class Accelerator { NONE, CPU, GPU, NPU }

class LiteRtException(message: String) : Exception(message)

class Environment

class TensorBuffer : AutoCloseable {
  fun writeFloat(data: FloatArray) = Unit

  fun readFloat(): FloatArray = floatArrayOf(9f, 0f)

  override fun close() = Unit
}

class CompiledModel(private val options: Options) : AutoCloseable {
  data class CpuOptions(
    val numThreads: Int? = null,
    val xnnPackFlags: Int? = null,
    val xnnPackWeightCachePath: String? = null,
  )

  class Options(vararg val accelerators: Accelerator) {
    var cpuOptions: CpuOptions? = null
  }

  fun createInputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = listOf(TensorBuffer())

  fun createOutputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = listOf(TensorBuffer())

  fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signatureIndex: Int = 0) {
    if (Accelerator.GPU in options.accelerators) onGpu()
  }

  fun createInputBuffer(inputName: String, signature: String? = null): TensorBuffer = TensorBuffer()

  fun createOutputBuffer(outputName: String, signature: String? = null): TensorBuffer = TensorBuffer()

  fun run(
    inputs: Map<String, TensorBuffer>,
    outputs: Map<String, TensorBuffer>,
    signature: String? = null,
  ) = Unit

  override fun close() = Unit

  companion object {
    fun create(
      assetManager: AssetManager,
      assetName: String,
      options: Options = Options(Accelerator.CPU),
      optionalEnv: Environment? = null,
    ): CompiledModel = CompiledModel(options)
  }
}
