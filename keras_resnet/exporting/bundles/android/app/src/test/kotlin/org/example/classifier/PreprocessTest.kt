package org.example.classifier

import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Tests [centerView] on the golden photos, on the computer: no phone is needed. */
class PreprocessTest {
  @Test
  fun photosBecomeThePixelsOfTheExport() {
    val lines = read("golden.txt").decodeToString().trimEnd().lines()
    val tolerance = lines.first().split(" ")[1].toFloat()
    val pairs = lines.drop(1).map { it.split(" ") }.filter { it[1] != "-" }
    assertTrue("no photos in the golden set", pairs.isNotEmpty())
    for ((file, photo) in pairs) {
      val expected = ppm(file).let { centerView(it.argb, it.width, it.height, crop = 1f) }
      val own = ppm(photo).let { centerView(it.argb, it.width, it.height) }
      val difference = own.indices.map { abs(own[it] - expected[it]) }.average()
      println("$photo: $difference levels on average, $tolerance allowed")
      assertTrue("$photo: $difference levels", difference <= tolerance)
    }
  }

  @Test
  fun transparentPixelsBecomeWhite() {
    val pixels = centerView(IntArray(16) { 0x00123456 }, 4, 4, Input(2, 2, channels = 3, Fit.CROP), crop = 1f)
    assertEquals(List(12) { 255f }, pixels.toList())
  }

  @Test
  fun theGoldenLogitsAreRefusedAsTheyShouldBe() {
    for (line in read("golden.txt").decodeToString().trimEnd().lines().drop(1)) {
      val (file, _, rejected) = line.split(" ")
      val logits = line.split(" ").drop(3).map { it.toFloat() }
      if (rejected != "-1") assertEquals(file, rejected == "1", rejects(logits))
    }
  }

  private class Picture(val argb: IntArray, val width: Int, val height: Int)

  /** A binary PPM as Pillow writes it: three lines of header. */
  private fun ppm(name: String): Picture {
    val bytes = read(name)
    val ends = bytes.indices.filter { bytes[it] == '\n'.code.toByte() }.take(3)
    val (width, height) = bytes.decodeToString(ends[0] + 1, ends[1]).split(" ").map { it.toInt() }
    fun level(i: Int) = bytes[ends[2] + 1 + i].toInt() and 255
    val argb = IntArray(width * height) {
      (255 shl 24) or (level(3 * it) shl 16) or (level(3 * it + 1) shl 8) or level(3 * it + 2)
    }
    return Picture(argb, width, height)
  }

  private fun read(name: String) =
    checkNotNull(javaClass.getResourceAsStream("/golden/$name")) { "no golden/$name" }
      .use { it.readBytes() }
}
