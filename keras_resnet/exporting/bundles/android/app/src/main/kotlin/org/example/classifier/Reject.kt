package org.example.classifier

import kotlin.math.exp
import kotlin.math.ln

/** Whether an image with these logits is rejected as "none of these". */
fun rejects(
  logits: List<Float>,
  score: String = REJECT_SCORE,
  threshold: Double = REJECT_THRESHOLD,
  mostEnergy: Double = REJECT_MOST_ENERGY,
): Boolean {
  if (score.isEmpty()) return false
  return certainty(score, logits) < threshold || certainty("energy", logits) > mostEnergy
}

/**
 * The maximum probability, the energy (log of the sum of the exponentials), or the margin between
 * the two largest logits.
 */
private fun certainty(score: String, logits: List<Float>): Double {
  val (best, second) = logits.sortedDescending().map { it.toDouble() }
  if (score == "margin") return best - second
  val energy = best + ln(logits.sumOf { exp(it - best) })
  return if (score == "energy") energy else exp(best - energy)
}
