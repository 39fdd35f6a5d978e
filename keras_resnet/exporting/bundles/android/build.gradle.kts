buildscript {
  repositories {
    google()
    mavenCentral()
  }
  dependencies {
    // The Android plugin has Kotlin built in; this gives it the version of the catalog.
    classpath(libs.kotlin.gradle.plugin)
  }
}

plugins {
  alias(libs.plugins.android.application) apply false
}
