// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package androidx.camera.view

import androidx.camera.core.Preview

class PreviewView {
  val surfaceProvider: Preview.SurfaceProvider get() = TODO()
}
