package org.example.classifier

import android.Manifest
import android.content.Intent
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.hardware.display.DisplayManager
import android.net.Uri
import android.os.Bundle
import android.os.SystemClock
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.EditText
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.Spinner
import android.widget.Switch
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.Preview
import androidx.camera.core.resolutionselector.AspectRatioStrategy
import androidx.camera.core.resolutionselector.ResolutionSelector
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.camera.view.PreviewView
import androidx.core.content.ContextCompat
import com.google.ai.edge.litert.Accelerator
import java.util.concurrent.Executors

/**
 * The thread that creates, uses and closes the model. The app has only one: after a rotation, Android
 * replaces the activity, and the new one waits until the old one has finished its attempt with the GPU.
 */
private val worker = Executors.newSingleThreadExecutor()

private const val PHOTOS = 20 // camera pictures of a new class
private const val MILLISECONDS_BETWEEN_PHOTOS = 200

/** A class that is being learned, and the features of its pictures so far. */
private class Lesson(val label: String) {
  val photos = mutableListOf<FloatArray>()
  var lastPhoto = 0L // time in milliseconds
}

/** Shows the camera image or a chosen picture, and its best classes. */
class MainActivity : ComponentActivity() {
  private lateinit var settings: Settings
  private lateinit var engine: Engine
  private lateinit var answers: TextView
  @Volatile private var isLoaded = false
  @Volatile private var photo: Bitmap? = null // shown instead of the camera image
  @Volatile private var lesson: Lesson? = null
  private var frames: ImageAnalysis? = null // of the running camera
  private var isRefused = false // whether the text says that the camera is not allowed

  private val askForCamera =
    registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
      isRefused = !granted
      if (granted) startCamera() else showProblem(getString(R.string.no_permission))
    }

  // A turn by 180 degrees does not replace the activity, and the preview turns by itself.
  private val turns =
    object : DisplayManager.DisplayListener {
      override fun onDisplayAdded(displayId: Int) = Unit

      override fun onDisplayRemoved(displayId: Int) = Unit

      override fun onDisplayChanged(displayId: Int) = turnFrames()
    }

  private val choosePicture =
    registerForActivityResult(ActivityResultContracts.PickVisualMedia()) { picture ->
      if (picture != null) worker.execute { classify(picture) }
    }

  override fun onCreate(savedInstanceState: Bundle?) {
    super.onCreate(savedInstanceState)
    setContentView(R.layout.activity_main)
    settings = Settings(this)
    engine = Engine(applicationContext, settings)
    answers = findViewById(R.id.answers)
    setUpButtons()
    setUpGpu()
    setUpThreads()
    if (engine.isTrainable) setUpLearning()
    worker.execute { load() }
    askForCamera.launch(Manifest.permission.CAMERA)
  }

  override fun onResume() {
    super.onResume()
    getSystemService(DisplayManager::class.java).registerDisplayListener(turns, null)
    turnFrames()
    if (isRefused && isCameraAllowed()) startCamera() // allowed in the phone's settings meanwhile
  }

  override fun onPause() {
    getSystemService(DisplayManager::class.java).unregisterDisplayListener(turns)
    super.onPause()
  }

  private fun isCameraAllowed() =
    ContextCompat.checkSelfPermission(this, Manifest.permission.CAMERA) ==
      PackageManager.PERMISSION_GRANTED

  private fun turnFrames() {
    findViewById<PreviewView>(R.id.preview).display?.let { frames?.targetRotation = it.rotation }
  }

  private fun setUpButtons() {
    val images = ActivityResultContracts.PickVisualMedia.ImageOnly
    val request = PickVisualMediaRequest.Builder().setMediaType(images).build()
    findViewById<Button>(R.id.choose_picture).setOnClickListener { choosePicture.launch(request) }
    findViewById<Button>(R.id.camera).setOnClickListener { showCamera() }
    findViewById<Button>(R.id.licenses).setOnClickListener {
      startActivity(Intent(this, LicensesActivity::class.java))
    }
  }

  private fun showCamera() {
    photo = null
    findViewById<ImageView>(R.id.photo).visibility = View.GONE
    if (frames == null) askForCamera.launch(Manifest.permission.CAMERA)
  }

  private fun setUpLearning() {
    findViewById<LinearLayout>(R.id.learning).visibility = View.VISIBLE
    findViewById<Switch>(R.id.use_gpu).visibility = View.GONE
    findViewById<Button>(R.id.add_class).setOnClickListener {
      val label = findViewById<EditText>(R.id.new_class).text.toString().trim()
      showProblem(if (label.isEmpty()) getString(R.string.name_first) else null)
      if (label.isNotEmpty()) {
        showCamera()
        lesson = Lesson(label)
      }
    }
    findViewById<Button>(R.id.forget).setOnClickListener {
      lesson = null
      worker.execute { if (isLoaded) engine.forget() }
      showProblem(getString(R.string.forgotten))
    }
  }

  private fun setUpGpu() {
    val gpu = findViewById<Switch>(R.id.use_gpu)
    gpu.isChecked = settings.useGpu
    gpu.setOnCheckedChangeListener { _, on ->
      if (on != settings.useGpu) {
        settings.useGpu = on
        reload()
      }
    }
  }

  private fun setUpThreads() {
    val processors = Runtime.getRuntime().availableProcessors()
    val choices = listOf(1, 2, 4, 8).filter { it <= processors }
    val spinner = findViewById<Spinner>(R.id.threads)
    val item = android.R.layout.simple_spinner_dropdown_item
    spinner.adapter = ArrayAdapter(this, item, choices.map { countThreads(it) })
    spinner.setSelection(choices.indexOf(settings.threads).coerceAtLeast(0))
    spinner.onItemSelectedListener =
      object : AdapterView.OnItemSelectedListener {
        override fun onItemSelected(parent: AdapterView<*>?, view: View?, at: Int, id: Long) {
          if (choices[at] != settings.threads) {
            settings.threads = choices[at]
            reload()
          }
        }

        override fun onNothingSelected(parent: AdapterView<*>?) = Unit
      }
  }

  private fun countThreads(count: Int) = resources.getQuantityString(R.plurals.threads, count, count)

  private fun reload() {
    showProblem(null)
    worker.execute { load() }
  }

  private fun load() {
    isLoaded = false
    try {
      val placement = engine.load()
      isLoaded = true
      runOnUiThread { show(placement) }
      photo?.let { classify(it) }
    } catch (error: Throwable) { // includes UnsatisfiedLinkError
      showModelFailed(error)
    }
  }

  private fun show(placement: Placement) {
    val isOnGpu = placement.accelerator == Accelerator.GPU
    findViewById<TextView>(R.id.accelerator).text =
      if (isOnGpu) getString(R.string.on_gpu)
      else getString(R.string.on_cpu, countThreads(settings.threads))
    findViewById<Switch>(R.id.use_gpu).isChecked = settings.useGpu // may be newer than [placement]
    if (placement.problem != null) showProblem(placement.problem)
  }

  private fun startCamera() {
    val coming = ProcessCameraProvider.getInstance(this)
    coming.addListener({ bindCamera { coming.get() } }, ContextCompat.getMainExecutor(this))
  }

  private fun bindCamera(getProvider: () -> ProcessCameraProvider) {
    if (frames != null) return
    if (isRefused) showProblem(null)
    isRefused = false
    try {
      val provider = getProvider()
      val cameras = listOf(CameraSelector.DEFAULT_BACK_CAMERA, CameraSelector.DEFAULT_FRONT_CAMERA)
      val camera = cameras.first { provider.hasCamera(it) }
      val analysis = analysis()
      provider.bindToLifecycle(this, camera, preview(), analysis)
      frames = analysis
    } catch (error: Throwable) { // camera errors have no common type
      showProblem(getString(R.string.no_camera))
    }
  }

  // The same aspect ratio for preview and frames, so that the drawn area is the classified one.
  private fun shape() =
    ResolutionSelector.Builder()
      .setAspectRatioStrategy(AspectRatioStrategy.RATIO_4_3_FALLBACK_AUTO_STRATEGY)
      .build()

  private fun preview(): Preview {
    val preview = Preview.Builder().setResolutionSelector(shape()).build()
    preview.setSurfaceProvider(findViewById<PreviewView>(R.id.preview).surfaceProvider)
    return preview
  }

  private fun analysis(): ImageAnalysis {
    val analysis =
      ImageAnalysis.Builder()
        .setResolutionSelector(shape())
        .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
        .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
        .build()
    analysis.setAnalyzer(worker) { frame -> classify(frame) }
    return analysis
  }

  private fun classify(frame: ImageProxy) {
    frame.use {
      if (photo == null && isLoaded) {
        val upright = turned(it.toBitmap(), it.imageInfo.rotationDegrees)
        lesson?.let { current -> teach(current, upright) }
        classify(upright, isPhoto = false)
      }
    }
  }

  /** Takes another picture of a new class when it is due; after the last one, learns the class. */
  private fun teach(current: Lesson, upright: Bitmap) {
    val now = SystemClock.elapsedRealtimeNanos() / 1_000_000
    if (now - current.lastPhoto < MILLISECONDS_BETWEEN_PHOTOS) return
    current.lastPhoto = now
    val said =
      try {
        current.photos += engine.features(upright)
        if (current.photos.size == PHOTOS) {
          lesson = null
          engine.learn(current.label, current.photos)
          getString(R.string.learned, current.label, current.photos.size)
        } else {
          getString(R.string.picture_of, current.photos.size, current.label)
        }
      } catch (error: Throwable) { // also OutOfMemoryError
        lesson = null
        getString(R.string.not_learned, error.message ?: error.toString())
      }
    runOnUiThread { showProblem(said) }
  }

  private fun classify(picture: Uri) {
    val chosen =
      try {
        contentResolver.openInputStream(picture)?.use { it.readBytes() }?.let { decodePhoto(it) }
      } catch (error: Throwable) { // also a picture that does not fit into memory
        null
      }
    if (chosen == null) return runOnUiThread { showProblem(getString(R.string.no_picture)) }
    photo = chosen
    runOnUiThread {
      val view = findViewById<ImageView>(R.id.photo)
      view.setImageBitmap(chosen)
      view.visibility = View.VISIBLE
      showProblem(null)
    }
    if (isLoaded) classify(chosen)
  }

  /** Classifies an upright picture, and shows the result unless the user has chosen another one. */
  private fun classify(upright: Bitmap, isPhoto: Boolean = true) {
    val began = SystemClock.elapsedRealtimeNanos()
    val best =
      try {
        engine.classify(upright)
      } catch (error: Throwable) { // also OutOfMemoryError
        return giveUp(error)
      }
    val milliseconds = (SystemClock.elapsedRealtimeNanos() - began) / 1e6
    val lines = best.map { getString(R.string.answer, it.label, 100 * it.score) }
    runOnUiThread {
      if (photo !== (if (isPhoto) upright else null)) return@runOnUiThread
      findViewById<AreaView>(R.id.area).show(upright.width, upright.height)
      answers.text = lines.joinToString("\n").ifEmpty { getString(R.string.none_of_these) }
      findViewById<TextView>(R.id.latency).text = getString(R.string.latency, milliseconds)
    }
  }

  /** After an error of the model: on the GPU, switches to the CPU; on the CPU, stops classifying. */
  private fun giveUp(error: Throwable) {
    if (settings.useGpu) {
      settings.useGpu = false
      load()
      val reason = getString(R.string.gpu_failed, error.message ?: error.toString())
      runOnUiThread { showProblem(reason) }
    } else {
      isLoaded = false
      showModelFailed(error)
    }
  }

  private fun showModelFailed(error: Throwable) = runOnUiThread {
    showProblem(getString(R.string.model_failed, error.message ?: error.toString()))
  }

  private fun showProblem(text: String?) {
    val problem = findViewById<TextView>(R.id.problem)
    problem.text = text
    problem.visibility = if (text == null) View.GONE else View.VISIBLE
  }

  override fun onDestroy() {
    super.onDestroy()
    worker.execute {
      isLoaded = false
      engine.close()
    }
  }
}
