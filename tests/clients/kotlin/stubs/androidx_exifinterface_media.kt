// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package androidx.exifinterface.media

import java.io.InputStream

class ExifInterface(stream: InputStream) {
  val rotationDegrees: Int get() = TODO()
  val isFlipped: Boolean get() = TODO()
}
