// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android

object Manifest {
  object permission {
    const val CAMERA = "android.permission.CAMERA"
  }
}

object R {
  object layout {
    const val simple_spinner_dropdown_item = 1
  }
}
