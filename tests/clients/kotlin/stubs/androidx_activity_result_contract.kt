// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package androidx.activity.result.contract

abstract class ActivityResultContract<I, O>

class ActivityResultContracts {
  class RequestPermission : ActivityResultContract<String, Boolean>()
}
