// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.content.res

import java.io.InputStream

open class AssetManager {
  open fun open(name: String): InputStream = TODO()

  fun list(path: String): Array<String>? = TODO()
}

class Resources {
  fun getDimension(id: Int): Float = TODO()

  fun getQuantityString(id: Int, quantity: Int, vararg arguments: Any?): String = TODO()
}
