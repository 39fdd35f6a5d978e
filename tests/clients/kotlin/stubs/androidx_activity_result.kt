// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package androidx.activity.result

import androidx.activity.result.contract.ActivityResultContracts.PickVisualMedia

fun interface ActivityResultCallback<O> {
  fun onActivityResult(result: O)
}

abstract class ActivityResultLauncher<I> {
  fun launch(input: I): Unit = TODO()
}

class PickVisualMediaRequest {
  class Builder {
    fun setMediaType(type: PickVisualMedia.VisualMediaType): Builder = TODO()

    fun build(): PickVisualMediaRequest = TODO()
  }
}
