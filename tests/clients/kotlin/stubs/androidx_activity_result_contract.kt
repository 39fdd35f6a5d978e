// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package androidx.activity.result.contract

import android.net.Uri
import androidx.activity.result.PickVisualMediaRequest

abstract class ActivityResultContract<I, O>

class ActivityResultContracts {
  class RequestPermission : ActivityResultContract<String, Boolean>()

  class PickVisualMedia : ActivityResultContract<PickVisualMediaRequest, Uri?>() {
    interface VisualMediaType

    object ImageOnly : VisualMediaType
  }
}
