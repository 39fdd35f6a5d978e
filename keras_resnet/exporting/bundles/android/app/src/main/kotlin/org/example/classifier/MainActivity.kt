package org.example.classifier

import android.Manifest
import android.os.Bundle
import android.widget.Switch
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.Preview
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.camera.view.PreviewView
import androidx.core.content.ContextCompat
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.LiteRtException
import java.util.concurrent.Executors

/** Shows the camera image and its best classes. */
class MainActivity : ComponentActivity() {
  // The model is created, used and closed on this thread only.
  private val worker = Executors.newSingleThreadExecutor()
  private var classifier: Classifier? = null
  private lateinit var answers: TextView

  private val askForCamera =
    registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
      if (granted) startCamera() else answers.setText(R.string.no_camera)
    }

  override fun onCreate(savedInstanceState: Bundle?) {
    super.onCreate(savedInstanceState)
    setContentView(R.layout.activity_main)
    answers = findViewById(R.id.answers)
    val gpu = findViewById<Switch>(R.id.gpu)
    gpu.setOnCheckedChangeListener { _, on -> load(if (on) Accelerator.GPU else Accelerator.CPU) }
    load(Accelerator.CPU)
    askForCamera.launch(Manifest.permission.CAMERA)
  }

  private fun load(accelerator: Accelerator) = worker.execute {
    classifier?.close()
    classifier =
      try {
        Classifier(assets, accelerator)
      } catch (refused: LiteRtException) {
        runOnUiThread {
          findViewById<Switch>(R.id.gpu).setText(R.string.gpu_refused)
        }
        Classifier(assets, Accelerator.CPU)
      }
  }

  private fun startCamera() {
    val coming = ProcessCameraProvider.getInstance(this)
    val bind = Runnable {
      val preview = Preview.Builder().build()
      preview.setSurfaceProvider(findViewById<PreviewView>(R.id.preview).surfaceProvider)
      val frames =
        ImageAnalysis.Builder()
          .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
          .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
          .build()
      frames.setAnalyzer(worker) { frame -> classify(frame) }
      coming.get().bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, preview, frames)
    }
    coming.addListener(bind, ContextCompat.getMainExecutor(this))
  }

  private fun classify(frame: ImageProxy) {
    val upright = frame.use { turned(it.toBitmap(), it.imageInfo.rotationDegrees) }
    val lines = classifier?.classify(upright) ?: return
    val classes = lines.joinToString("\n") { "%s  %.0f %%".format(it.label, 100 * it.score) }
    val text = classes.ifEmpty { getString(R.string.none_of_these) }
    runOnUiThread { answers.text = text }
  }

  override fun onDestroy() {
    super.onDestroy()
    worker.execute {
      classifier?.close()
      classifier = null
    }
    worker.shutdown()
  }
}
