plugins {
  id("com.android.application") version "8.11.0" apply false
  id("org.jetbrains.kotlin.android") version "2.3.0" apply false
}
