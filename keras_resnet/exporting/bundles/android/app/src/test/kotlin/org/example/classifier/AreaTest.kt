package org.example.classifier

import org.junit.Assert.assertEquals
import org.junit.Test

/** Tests [classifiedArea] on the computer. */
class AreaTest {
  @Test
  fun theAreaIsTheMiddleSquareOfThePictureWithinTheView() {
    // 480 x 640 in a view of 300 x 600: half as large would be 240 x 320; it fits 300 x 400.
    val area = classifiedArea(300, 600, 480, 640, Input(32, 32, 3, Fit.CROP), crop = 0.5f)
    assertEquals(Area(75f, 225f, 225f, 375f), area)
  }

  @Test
  fun aWidePictureIsAsHighAsTheViewAllows() {
    val area = classifiedArea(300, 100, 400, 200, Input(32, 32, 3, Fit.CROP), crop = 1f)
    assertEquals(Area(100f, 0f, 200f, 100f), area)
  }

  @Test
  fun theAreaHasTheShapeOfTheInputOrIsTheWholePicture() {
    val area = classifiedArea(400, 400, 400, 400, Input(32, 64, 3, Fit.CROP), crop = 1f)
    assertEquals(Area(0f, 100f, 400f, 300f), area)
    for (fit in listOf(Fit.PAD, Fit.STRETCH)) {
      val whole = classifiedArea(300, 100, 400, 200, Input(32, 64, 1, fit), crop = 0.5f)
      assertEquals(Area(50f, 0f, 250f, 100f), whole)
    }
  }
}
