// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.content.pm

object PackageManager {
  const val PERMISSION_GRANTED = 0
}
