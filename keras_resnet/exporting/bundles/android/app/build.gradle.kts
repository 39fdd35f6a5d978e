plugins {
  alias(libs.plugins.android.application)
}

android {
  namespace = "org.example.classifier"
  compileSdk = 36

  defaultConfig {
    applicationId = "org.example.classifier"
    minSdk = 24 // LiteRT 2.3.0
    targetSdk = 36
    versionCode = 1
    versionName = "1.0"
    testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
  }

  buildTypes {
    release {
      isMinifyEnabled = true
      isShrinkResources = true
      proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"), "proguard-rules.pro")
      // Signed with the debug key, for tests only: stores require your own key.
      signingConfig = signingConfigs.getByName("debug")
    }
  }

  // Uncompressed, because the model is memory-mapped from the package.
  androidResources { noCompress += "tflite" }

  compileOptions {
    sourceCompatibility = JavaVersion.VERSION_17
    targetCompatibility = JavaVersion.VERSION_17
  }
}

dependencies {
  implementation(libs.litert)
  implementation(libs.litert.gpu)
  implementation(libs.activity)
  implementation(libs.camera.camera2)
  implementation(libs.camera.lifecycle)
  implementation(libs.camera.view)
  implementation(libs.exifinterface)

  testImplementation(libs.junit)
  androidTestImplementation(libs.test.runner)
  androidTestImplementation(libs.test.junit)
}
