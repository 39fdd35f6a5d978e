// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.content

import android.content.res.AssetManager

open class Context {
  val assets: AssetManager get() = TODO()

  fun getString(id: Int): String = TODO()
}
