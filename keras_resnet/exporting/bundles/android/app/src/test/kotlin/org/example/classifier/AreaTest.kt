package org.example.classifier

import org.junit.Assert.assertEquals
import org.junit.Test

/** Tests [classifiedArea] on the computer. */
class AreaTest {
  @Test
  fun theAreaIsTheMiddleSquareOfThePictureWithinTheView() {
    // 480 x 640 in a view of 300 x 600: half as large would be 240 x 320; it fits 300 x 400.
    val area = classifiedArea(300, 600, 480, 640, crop = 0.5f)
    assertEquals(Area(75f, 225f, 225f, 375f), area)
  }

  @Test
  fun aWidePictureIsAsHighAsTheViewAllows() {
    assertEquals(Area(100f, 0f, 200f, 100f), classifiedArea(300, 100, 400, 200, crop = 1f))
  }
}
