// "None of these": whether an image is of none of the classes, as preprocess.json says.

/** By logits, and the rule `{score, threshold, most_energy}`; without one, no image is. The rule is for
 *  the first `known` classes: what a learned one, behind them, is best for is not refused. */
export function rejects(all, reject, known = all.length) {
  if (!reject || all.indexOf(Math.max(...all)) >= known) return false;
  const logits = all.slice(0, known);
  const most = reject.most_energy ?? Infinity;
  return certainty(reject.score, logits) < reject.threshold || certainty('energy', logits) > most;
}

/** The maximum probability, the energy (log of the sum of the exponentials), or the margin between
 *  the two largest logits. */
function certainty(score, logits) {
  const [best, second] = Array.from(logits).sort((a, b) => b - a);
  if (score === 'margin') return best - second;
  const energy = best + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - best), 0));
  return score === 'energy' ? energy : Math.exp(best - energy);
}
