package org.example.classifier

import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.File
import java.io.FileOutputStream
import java.io.IOException

/** Runs a signature of the model: its name, inputs by name, names of all outputs; outputs by name. */
typealias Call = (String, Map<String, FloatArray>, List<String>) -> Map<String, FloatArray>

/**
 * The new classes of a trainable model, which are learned on this phone and stored in [file]. Use it
 * from one thread only.
 */
class Learner(
  private val file: File,
  private val spare: Int = SPARE,
  private val model: String = MODEL_SHA256,
  private val call: Call,
) {
  private class Example(val output: Int, val features: FloatArray)

  private val names = mutableListOf<String>()
  private val examples = mutableListOf<Example>()
  private val blank = save() // the untrained weights

  val labels: List<String>
    get() = names

  init {
    try {
      if (file.exists()) DataInputStream(file.inputStream().buffered()).use { read(it) }
    } catch (error: IOException) { // a file that is cut off
      forget()
    }
  }

  /**
   * Learns a new class, or adds to one, from the features of photos, and stores it. After an error,
   * the classes are as before.
   */
  fun learn(label: String, photos: List<FloatArray>) {
    val before = Triple(names.toList(), examples.toList(), save())
    try {
      add(label, photos)
    } catch (error: Throwable) {
      names.clear()
      names += before.first
      examples.clear()
      examples += before.second
      call("restore", before.third, listOf("trained"))
      throw error
    }
  }

  private fun add(label: String, photos: List<FloatArray>) {
    if (label !in names) {
      check(names.size < spare) { "there are already $spare new classes" }
      names += label
    }
    photos.mapTo(examples) { Example(names.indexOf(label), it) }
    repeat(PASSES) {
      for (example in examples) {
        val oneHot = FloatArray(spare) { if (it == example.output) 1f else 0f }
        call("train", mapOf("features" to example.features, "label" to oneHot), listOf("loss"))
      }
    }
    // Renamed when complete, because the app may end at any time.
    val whole = File("${file.path}-new")
    FileOutputStream(whole).use { stream ->
      val buffered = DataOutputStream(stream.buffered())
      write(buffered)
      buffered.flush()
      stream.fd.sync()
    }
    check(whole.renameTo(file)) { "cannot write $file" }
  }

  fun forget() {
    file.delete()
    names.clear()
    examples.clear()
    call("restore", blank, listOf("trained"))
  }

  private fun save() = call("save", emptyMap(), listOf("weights", "bias"))

  private fun write(to: DataOutputStream) {
    to.writeUTF(model)
    to.writeInt(names.size)
    names.forEach { to.writeUTF(it) }
    to.writeInt(examples.size)
    for (example in examples) {
      to.writeInt(example.output)
      to.write(example.features)
    }
    val head = save()
    to.write(head.getValue("weights"))
    to.write(head.getValue("bias"))
  }

  private fun read(from: DataInputStream) {
    if (from.readUTF() != model) return
    repeat(from.readInt()) { names += from.readUTF() }
    repeat(from.readInt()) { examples += Example(from.readInt(), from.readFloats()) }
    val head = mapOf("weights" to from.readFloats(), "bias" to from.readFloats())
    call("restore", head, listOf("trained"))
  }
}

private fun DataOutputStream.write(values: FloatArray) {
  writeInt(values.size)
  values.forEach { writeFloat(it) }
}

private fun DataInputStream.readFloats() = FloatArray(readInt()) { readFloat() }
