package org.example.classifier

import android.content.Context
import android.content.SharedPreferences

/** What the user chose, and whether the GPU is being tried. */
class Settings(context: Context) {
  private val stored = context.getSharedPreferences("settings", Context.MODE_PRIVATE)

  var useGpu: Boolean
    get() = stored.getBoolean("use_gpu", false)
    set(value) = save { putBoolean("use_gpu", value) }

  /** Of the CPU. */
  var threads: Int
    get() = stored.getInt("threads", 1)
    set(value) = save { putInt("threads", value) }

  /**
   * True from before the GPU is tried until it has given its first answer. True at the start of the
   * app: the attempt ended it.
   */
  var gpuOnTrial: Boolean
    get() = stored.getBoolean("gpu_on_trial", false)
    set(value) = save { putBoolean("gpu_on_trial", value) }

  // commit, not apply: a crash in native code would come before the file is written.
  private fun save(change: SharedPreferences.Editor.() -> SharedPreferences.Editor) {
    stored.edit().change().commit()
  }
}
