package org.example.classifier

import android.os.Bundle
import android.widget.TextView
import androidx.activity.ComponentActivity

/** Shows NOTICE and LICENSE from the assets. */
class LicensesActivity : ComponentActivity() {
  override fun onCreate(savedInstanceState: Bundle?) {
    super.onCreate(savedInstanceState)
    setContentView(R.layout.activity_licenses)
    findViewById<TextView>(R.id.text).text = listOf("NOTICE", "LICENSE").joinToString("\n\n") { name ->
      assets.open(name).use { it.readBytes().decodeToString() }
    }
  }
}
