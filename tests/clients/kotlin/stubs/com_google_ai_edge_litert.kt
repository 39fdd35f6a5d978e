// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
// litert/kotlin/src/main/kotlin/com/google/ai/edge/litert in LiteRT's repository.
package com.google.ai.edge.litert

import android.content.res.AssetManager

enum class Accelerator { NONE, CPU, GPU, NPU }

class LiteRtException : Exception()

class Environment

class TensorBuffer : AutoCloseable {
  fun writeFloat(data: FloatArray): Unit = TODO()

  fun readFloat(): FloatArray = TODO()

  override fun close(): Unit = TODO()
}

class CompiledModel : AutoCloseable {
  class Options(vararg val accelerators: Accelerator)

  fun createInputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = TODO()

  fun createOutputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = TODO()

  fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signatureIndex: Int = 0): Unit = TODO()

  override fun close(): Unit = TODO()

  companion object {
    fun create(
      assetManager: AssetManager,
      assetName: String,
      options: Options = TODO(),
      optionalEnv: Environment? = null,
    ): CompiledModel = TODO()
  }
}
