// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.widget

import android.content.Context
import android.graphics.Bitmap
import android.util.AttributeSet
import android.view.View

open class TextView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
  var text: CharSequence?
    get() = TODO()
    set(value) = TODO()
}

open class Button(context: Context, attributes: AttributeSet?) : TextView(context, attributes)

open class CompoundButton(context: Context, attributes: AttributeSet?) : Button(context, attributes) {
  fun interface OnCheckedChangeListener {
    fun onCheckedChanged(button: CompoundButton, checked: Boolean)
  }

  var isChecked: Boolean
    get() = TODO()
    set(value) = TODO()

  fun setOnCheckedChangeListener(listener: OnCheckedChangeListener?): Unit = TODO()
}

class Switch(context: Context, attributes: AttributeSet?) : CompoundButton(context, attributes)

class EditText(context: Context, attributes: AttributeSet?) : TextView(context, attributes)

class LinearLayout(context: Context, attributes: AttributeSet?) : View(context, attributes)

class ImageView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
  fun setImageBitmap(bitmap: Bitmap?): Unit = TODO()
}

interface SpinnerAdapter

class ArrayAdapter<T>(context: Context, resource: Int, items: List<T>) : SpinnerAdapter

abstract class AdapterView<T>(context: Context, attributes: AttributeSet?) : View(context, attributes) {
  interface OnItemSelectedListener {
    fun onItemSelected(parent: AdapterView<*>?, view: View?, at: Int, id: Long)

    fun onNothingSelected(parent: AdapterView<*>?)
  }

  var onItemSelectedListener: OnItemSelectedListener?
    get() = TODO()
    set(value) = TODO()
}

class Spinner(context: Context, attributes: AttributeSet?) :
  AdapterView<SpinnerAdapter>(context, attributes) {
  var adapter: SpinnerAdapter?
    get() = TODO()
    set(value) = TODO()

  fun setSelection(position: Int): Unit = TODO()
}
