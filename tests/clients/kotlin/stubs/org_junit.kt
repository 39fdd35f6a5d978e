// Enough of JUnit to run a test without it.
package org.junit

annotation class Test

object Assert {
  @JvmStatic
  fun assertEquals(expected: Any?, actual: Any?) = assertTrue("$expected expected, not $actual", expected == actual)

  @JvmStatic
  fun assertEquals(message: String, expected: Any?, actual: Any?) =
    assertTrue("$message: $expected expected, not $actual", expected == actual)

  @JvmStatic
  fun assertTrue(message: String, condition: Boolean) {
    if (!condition) throw AssertionError(message)
  }
}
