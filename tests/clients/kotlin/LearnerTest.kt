import java.io.File
import org.example.classifier.Learner
import org.example.classifier.PASSES
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue

private const val SPARE = 3

/** What is learned, kept, restored and forgotten; the model notes what it is given. */
class LearnerTest {
  private val file = File.createTempFile("learner", null).apply { delete() }
  private val model = Model()

  fun everyPhotoIsLearnedWithItsOwnOutput() {
    val learner = Learner(file, SPARE, "a", model::call)
    learner.learn("hat", listOf(floatArrayOf(1f), floatArrayOf(2f)))
    learner.learn("cup", listOf(floatArrayOf(3f)))
    assertEquals(listOf("hat", "cup"), learner.labels)
    val ofHat = List(PASSES) { listOf("1.0 for 0", "2.0 for 0") }.flatten()
    val ofBoth = List(PASSES) { listOf("1.0 for 0", "2.0 for 0", "3.0 for 1") }.flatten()
    assertEquals(ofHat + ofBoth, model.trained)
  }

  fun whatWasLearnedIsRestoredAndForgotten() {
    Learner(file, SPARE, "a", model::call).learn("hat", listOf(floatArrayOf(1f)))
    val next = Model()
    val learner = Learner(file, SPARE, "a", next::call)
    assertEquals(listOf("hat"), learner.labels)
    assertEquals(model.weights, next.weights)
    learner.forget()
    assertTrue("a file is left", !file.exists() && learner.labels.isEmpty())
    assertEquals(Model().weights, next.weights)
  }

  fun whatAnotherModelLearnedIsIgnored() {
    Learner(file, SPARE, "a", model::call).learn("hat", listOf(floatArrayOf(1f)))
    assertEquals(emptyList<String>(), Learner(file, SPARE, "b", Model()::call).labels)
  }

  fun aFileThatIsCutOffIsForgotten() {
    Learner(file, SPARE, "a", model::call).learn("hat", listOf(floatArrayOf(1f)))
    file.writeBytes(file.readBytes().dropLast(3).toByteArray())
    val next = Model()
    assertEquals(emptyList<String>(), Learner(file, SPARE, "a", next::call).labels)
    assertTrue("the file is left", !file.exists())
    assertEquals(Model().weights, next.weights)
  }

  fun afterAnErrorTheClassesAreAsBefore() {
    val learner = Learner(file, SPARE, "a", model::call)
    learner.learn("hat", listOf(floatArrayOf(1f)))
    val before = model.weights
    file.delete()
    file.mkdir() // the file cannot be replaced
    File(file, "x").createNewFile()
    val failure = runCatching { learner.learn("cup", listOf(floatArrayOf(2f))) }.exceptionOrNull()
    assertEquals("cannot write $file", failure?.message)
    assertEquals(listOf("hat"), learner.labels)
    assertEquals(before, model.weights)
  }

  fun thereIsNoClassMoreThanTheModelHasOutputsFor() {
    val learner = Learner(file, SPARE, "a", model::call)
    for (label in listOf("hat", "cup", "key", "cup")) learner.learn(label, listOf(floatArrayOf(1f)))
    val failure = runCatching { learner.learn("pen", listOf(floatArrayOf(1f))) }.exceptionOrNull()
    assertEquals("there are already 3 new classes", failure?.message)
    assertEquals(listOf("hat", "cup", "key"), learner.labels)
  }
}

private class Model {
  val trained = mutableListOf<String>()
  var weights = listOf(0f)

  fun call(signature: String, inputs: Map<String, FloatArray>, outputs: List<String>): Map<String, FloatArray> {
    if (signature == "train") {
      trained += "${inputs.getValue("features")[0]} for ${inputs.getValue("label").toList().indexOf(1f)}"
      weights = listOf(trained.size.toFloat())
    }
    if (signature == "restore") weights = inputs.getValue("weights").toList()
    return outputs.associateWith { weights.toFloatArray() }
  }
}
