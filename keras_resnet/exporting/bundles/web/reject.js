// "None of these": rejects images by the threshold in preprocess.json.

/** Whether logits are rejected by the rule `{score, threshold, most_energy}`; without one, none are.
 *  The rule is for the first `known` classes: an image whose best class was learned is accepted. */
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
