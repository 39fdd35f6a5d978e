// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.widget

open class TextView {
  var text: CharSequence
    get() = TODO()
    set(value) = TODO()

  fun setText(resource: Int): Unit = TODO()
}

open class CompoundButton : TextView() {
  fun interface OnCheckedChangeListener {
    fun onCheckedChanged(button: CompoundButton, checked: Boolean)
  }

  fun setOnCheckedChangeListener(listener: OnCheckedChangeListener?): Unit = TODO()
}

class Switch : CompoundButton()
