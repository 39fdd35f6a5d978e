// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.view

import android.content.Context
import android.content.res.Resources
import android.graphics.Canvas
import android.util.AttributeSet

class Display {
  val rotation: Int get() = TODO()
}

open class View(context: Context, attributes: AttributeSet?) {
  fun interface OnClickListener {
    fun onClick(view: View)
  }

  val resources: Resources get() = TODO()
  val width: Int get() = TODO()
  val height: Int get() = TODO()
  val display: Display? get() = TODO()
  var visibility: Int
    get() = TODO()
    set(value) = TODO()

  fun setOnClickListener(listener: OnClickListener?): Unit = TODO()

  fun invalidate(): Unit = TODO()

  protected open fun onDraw(canvas: Canvas): Unit = TODO()

  companion object {
    const val VISIBLE = 0
    const val GONE = 8
  }
}
