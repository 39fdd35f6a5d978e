import org.example.classifier.AreaTest
import org.example.classifier.PhotoTest
import org.example.classifier.PreprocessTest

/** Runs the tests of the bundle that need no phone, and that of its choice of the accelerator. */
fun main() {
  val preprocess = PreprocessTest()
  preprocess.transparentPixelsBecomeWhite()
  preprocess.photosBecomeThePixelsOfTheExport()
  preprocess.theGoldenLogitsAreRefusedAsTheyShouldBe()
  val area = AreaTest()
  area.theAreaIsTheMiddleSquareOfThePictureWithinTheView()
  area.aWidePictureIsAsHighAsTheViewAllows()
  area.theAreaHasTheShapeOfTheInputOrIsTheWholePicture()
  val photo = PhotoTest()
  photo.aLargePhotoIsDecodedAtAFraction()
  photo.eightPixelsAreLeftForEachOneOfTheModel()
  LearnerTest().everyPhotoIsLearnedWithItsOwnOutput()
  LearnerTest().whatWasLearnedIsRestoredAndForgotten()
  LearnerTest().whatAnotherModelLearnedIsIgnored()
  LearnerTest().aFileThatIsCutOffIsForgotten()
  LearnerTest().afterAnErrorTheClassesAreAsBefore()
  LearnerTest().thereIsNoClassMoreThanTheModelHasOutputsFor()
  val engine = EngineTest()
  engine.theModelRunsOnTheCpuUnlessTheUserChoosesTheGpu()
  engine.aGpuThatRunsTheModelIsUsed()
  engine.aGpuThatFailsLeavesItToTheCpuWithTheReason()
  engine.aGpuThatEndsTheAppIsNotTriedAgain()
}
