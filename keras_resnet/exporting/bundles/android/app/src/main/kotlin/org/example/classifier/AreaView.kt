package org.example.classifier

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View

/** Draws the border of the classified part over the camera image or the photo. */
class AreaView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
  private val line =
    Paint().apply {
      style = Paint.Style.STROKE
      color = context.getColor(R.color.area)
      strokeWidth = resources.getDimension(R.dimen.area_line)
    }
  private var imageWidth = 0
  private var imageHeight = 0

  /** Sets the size of the upright picture below. */
  fun show(width: Int, height: Int) {
    if (width == imageWidth && height == imageHeight) return
    imageWidth = width
    imageHeight = height
    invalidate()
  }

  override fun onDraw(canvas: Canvas) {
    if (imageWidth == 0) return
    val area = classifiedArea(width, height, imageWidth, imageHeight)
    canvas.drawRect(area.left, area.top, area.right, area.bottom, line)
  }
}
