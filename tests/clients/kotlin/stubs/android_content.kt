// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.content

import android.content.res.AssetManager
import android.content.res.Resources
import android.net.Uri
import java.io.File
import java.io.InputStream

open class Context {
  open val assets: AssetManager get() = TODO()
  val applicationContext: Context get() = TODO()
  val filesDir: File get() = TODO()
  val contentResolver: ContentResolver get() = TODO()
  val resources: Resources get() = TODO()

  open fun getString(id: Int): String = TODO()

  open fun getString(id: Int, vararg arguments: Any?): String = TODO()

  fun getColor(id: Int): Int = TODO()

  fun <T> getSystemService(kind: Class<T>): T = TODO()

  open fun getSharedPreferences(name: String, mode: Int): SharedPreferences = TODO()

  fun startActivity(intent: Intent): Unit = TODO()

  companion object {
    const val MODE_PRIVATE = 0
  }
}

class Intent(context: Context, type: Class<*>)

class ContentResolver {
  fun openInputStream(uri: Uri): InputStream? = TODO()
}

interface SharedPreferences {
  interface Editor {
    fun putBoolean(key: String, value: Boolean): Editor

    fun putInt(key: String, value: Int): Editor

    fun commit(): Boolean
  }

  fun getBoolean(key: String, default: Boolean): Boolean

  fun getInt(key: String, default: Int): Int

  fun edit(): Editor
}
