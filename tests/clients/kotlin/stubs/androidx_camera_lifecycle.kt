// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package androidx.camera.lifecycle

import android.content.Context
import androidx.camera.core.Camera
import androidx.camera.core.CameraSelector
import androidx.camera.core.UseCase
import androidx.lifecycle.LifecycleOwner
import com.google.common.util.concurrent.ListenableFuture

class ProcessCameraProvider {
  fun bindToLifecycle(owner: LifecycleOwner, selector: CameraSelector, vararg cases: UseCase): Camera =
    TODO()

  fun hasCamera(selector: CameraSelector): Boolean = TODO()

  companion object {
    fun getInstance(context: Context): ListenableFuture<ProcessCameraProvider> = TODO()
  }
}
