// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package org.json

class JSONArray {
  fun length(): Int = TODO()

  fun getJSONObject(index: Int): JSONObject = TODO()

  fun getDouble(index: Int): Double = TODO()
}

class JSONObject(text: String) {
  fun keys(): Iterator<String> = TODO()

  fun isNull(name: String): Boolean = TODO()

  fun getJSONArray(name: String): JSONArray = TODO()

  fun getJSONObject(name: String): JSONObject = TODO()

  fun getString(name: String): String = TODO()

  fun getBoolean(name: String): Boolean = TODO()

  fun getDouble(name: String): Double = TODO()

  fun getInt(name: String): Int = TODO()
}
