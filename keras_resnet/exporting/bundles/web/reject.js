// "None of these": whether an image is of none of the classes, as preprocess.json says.

/** By logits, and a threshold `{score, threshold}`; without one, no image is. */
export function rejects(logits, reject) {
  return Boolean(reject) && certainty(reject.score, logits) < reject.threshold;
}

/** The maximum probability, the energy (log of the sum of the exponentials), or the margin between
 *  the two largest logits. */
function certainty(score, logits) {
  const [best, second] = Array.from(logits).sort((a, b) => b - a);
  if (score === 'margin') return best - second;
  const energy = best + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - best), 0));
  return score === 'energy' ? energy : Math.exp(best - energy);
}
