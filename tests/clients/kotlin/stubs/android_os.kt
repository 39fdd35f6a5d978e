// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.os

class Bundle

object SystemClock {
  fun elapsedRealtimeNanos(): Long = TODO()
}

class Handler
