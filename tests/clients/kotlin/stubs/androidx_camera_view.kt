// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package androidx.camera.view

import android.content.Context
import android.util.AttributeSet
import android.view.View
import androidx.camera.core.Preview

class PreviewView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
  val surfaceProvider: Preview.SurfaceProvider get() = TODO()
}
