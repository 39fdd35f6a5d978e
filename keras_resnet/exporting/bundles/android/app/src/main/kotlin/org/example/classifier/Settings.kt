package org.example.classifier

import android.content.Context
import android.content.SharedPreferences

/** The user's settings, and whether the GPU is being tried. */
class Settings(context: Context) {
  private val stored = context.getSharedPreferences("settings", Context.MODE_PRIVATE)

  var useGpu: Boolean
    get() = stored.getBoolean("use_gpu", false)
    set(value) = save { putBoolean("use_gpu", value) }

  /** Number of CPU threads. */
  var threads: Int
    get() = stored.getInt("threads", 1)
    set(value) = save { putInt("threads", value) }

  /**
   * True from before the GPU is tried until its first result. If it is true when the app starts, the
   * attempt crashed the app.
   */
  var gpuOnTrial: Boolean
    get() = stored.getBoolean("gpu_on_trial", false)
    set(value) = save { putBoolean("gpu_on_trial", value) }

  // commit, not apply: the file must be written before native code may crash.
  private fun save(change: SharedPreferences.Editor.() -> SharedPreferences.Editor) {
    stored.edit().change().commit()
  }
}
