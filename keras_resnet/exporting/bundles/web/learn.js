// New classes that a trainable model learns in this browser and keeps in its storage.

const PASSES = {{passes}};  // epochs on the photos of all new classes
const KEY = 'new classes of {{sha256}}';  // for this model only

// Null if the browser blocks it: new classes are then lost when the page is closed.
const storage = (() => {
  try {
    return localStorage;
  } catch {
    return null;
  }
})();

export class Learner {
  labels = [];  // of the new classes
  #examples = [];  // [{output, features}]: index of the spare output, and features from "infer"
  #call;
  #spare;
  #blank;  // the untrained head

  /** `call(signature, {name: {data, shape}})` returns `{name: Float32Array}`; `spare` is the number
   *  of outputs for new classes. */
  constructor(call, spare) {
    this.#call = call;
    this.#spare = spare;
  }

  /** Loads the classes in this browser's storage; call it after the model was loaded. */
  async start() {
    this.#blank = await this.#call('save', {});
    const kept = JSON.parse(storage?.getItem(KEY) ?? 'null');
    this.labels = kept?.labels ?? [];
    this.#examples = kept?.examples ?? [];
    if (kept) await this.#restore(kept);
  }

  /** Learns a new class, or adds to one, from the features of photos, and stores it; after an
   *  error, the classes are as before. */
  async learn(label, photos) {
    const before = {labels: [...this.labels], examples: [...this.#examples], head: await this.#call('save', {})};
    try {
      await this.#add(label, photos);
    } catch (error) {
      this.labels = before.labels;
      this.#examples = before.examples;
      await this.#restore(before.head);
      throw error;
    }
  }

  async #add(label, photos) {
    if (!this.labels.includes(label)) {
      if (this.labels.length === this.#spare) throw new Error(`there are already ${this.#spare} new classes`);
      this.labels.push(label);
    }
    const output = this.labels.indexOf(label);
    for (const features of photos) this.#examples.push({output, features: Array.from(features)});
    for (let pass = 0; pass < PASSES; pass++) {
      for (const {output, features} of this.#examples) {
        const oneHot = Float32Array.from({length: this.#spare}, (_, i) => Number(i === output));
        await this.#call('train', {
          features: {data: Float32Array.from(features), shape: [1, features.length]},
          label: {data: oneHot, shape: [1, this.#spare]},
        });
      }
    }
    const {weights, bias} = await this.#call('save', {});
    storage?.setItem(KEY, JSON.stringify({
      labels: this.labels, examples: this.#examples, weights: Array.from(weights), bias: Array.from(bias),
    }));
  }

  async forget() {
    storage?.removeItem(KEY);
    this.labels = [];
    this.#examples = [];
    await this.#restore(this.#blank);
  }

  #restore({weights, bias}) {
    return this.#call('restore', {
      weights: {data: Float32Array.from(weights), shape: [this.#spare, weights.length / this.#spare]},
      bias: {data: Float32Array.from(bias), shape: [this.#spare]},
    });
  }
}
