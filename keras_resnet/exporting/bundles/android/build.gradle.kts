buildscript {
  repositories {
    google()
    mavenCentral()
  }
  dependencies {
    // The Android plugin includes Kotlin; this sets the version from the catalog.
    classpath(libs.kotlin.gradle.plugin)
  }
}

plugins {
  alias(libs.plugins.android.application) apply false
}
