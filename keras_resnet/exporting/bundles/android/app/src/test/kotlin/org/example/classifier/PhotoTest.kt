package org.example.classifier

import org.junit.Assert.assertEquals
import org.junit.Test

/** Tests [sampleSize] on the computer. */
class PhotoTest {
  private val input = Input(64, 64, 3, Fit.CROP)

  @Test
  fun aLargePhotoIsDecodedAtAFraction() {
    assertEquals(1, sampleSize(2160, 2159, input))
    assertEquals(2, sampleSize(2160, 3840, input))
    assertEquals(8, sampleSize(12000, 9000, input))
    assertEquals(2, sampleSize(20000, 1000, input)) // a panorama, of 20 million pixels
  }

  @Test
  fun eightPixelsAreLeftForEachOneOfTheModel() {
    assertEquals(4, sampleSize(12000, 9000, Input(224, 224, 3, Fit.CROP)))
  }
}
