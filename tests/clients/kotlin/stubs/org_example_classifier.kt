// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package org.example.classifier

// Gradle makes this of the files in res/.
object R {
  object layout {
    const val activity_main = 1
  }

  object id {
    const val preview = 1
    const val answers = 2
    const val gpu = 3
  }

  object string {
    const val no_camera = 1
    const val gpu_refused = 2
    const val none_of_these = 3
  }
}
