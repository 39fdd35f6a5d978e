// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.content.res

import java.io.InputStream

class AssetManager {
  fun open(name: String): InputStream = TODO()

  fun list(path: String): Array<String>? = TODO()
}
