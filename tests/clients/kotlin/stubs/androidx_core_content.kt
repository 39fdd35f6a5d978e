// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package androidx.core.content

import android.content.Context
import java.util.concurrent.Executor

object ContextCompat {
  fun checkSelfPermission(context: Context, permission: String): Int = TODO()

  fun getMainExecutor(context: Context): Executor = TODO()
}
