import org.example.classifier.PreprocessTest

/** Runs the bundle's test of the resize on this machine. */
fun main() {
  val test = PreprocessTest()
  test.transparentPixelsBecomeWhite()
  test.photosBecomeThePixelsOfTheExport()
  test.theGoldenLogitsAreRefusedAsTheyShouldBe()
}
