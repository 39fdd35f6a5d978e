// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.os

object Build {
  object VERSION {
    const val SDK_INT = 36
  }

  object VERSION_CODES {
    const val Q = 29
  }
}

class Bundle

object SystemClock {
  fun elapsedRealtimeNanos(): Long = TODO()
}

class Handler
