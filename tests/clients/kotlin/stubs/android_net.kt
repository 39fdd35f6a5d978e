// A stub: only what the app uses, with the signatures of the real thing, and no bodies.
package android.net

class Uri
