// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.hardware.display

import android.os.Handler

class DisplayManager {
  interface DisplayListener {
    fun onDisplayAdded(displayId: Int)

    fun onDisplayRemoved(displayId: Int)

    fun onDisplayChanged(displayId: Int)
  }

  fun registerDisplayListener(listener: DisplayListener, handler: Handler?): Unit = TODO()

  fun unregisterDisplayListener(listener: DisplayListener): Unit = TODO()
}
