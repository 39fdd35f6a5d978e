import {loadAndCompile, loadLiteRt, Tensor} from '@litertjs/core';
import {centerView, decode} from './preprocess.js';
import {Learner} from './learn.js';
import {rejects} from './reject.js';

const TOP = 3;
const PHOTOS = 20;  // camera pictures of a new class
const MILLISECONDS_BETWEEN_PHOTOS = 200;
// Browsers disable the camera and hashes on insecure pages.
const NEEDS_HTTPS = 'needs https or localhost';
const at = (id) => document.getElementById(id);
const json = async (path) => (await fetch(path)).json();

let model, labels, contract, stream, shown, accelerator;
let learner;  // for a trainable model
let lastUse = Promise.resolve();

function say(text, bad = false) {
  at('status').textContent = text;
  at('status').classList.toggle('bad', bad);
}

/** Calls `use` after the earlier uses of the model, so that none loses its model. */
function inTurn(use) {
  const result = lastUse.then(use);
  lastUse = result.catch(() => {});
  return result;
}

/** Float32Array of logits for uint8 pixels; the model normalizes them itself. */
async function run(pixels) {
  const {logits} = await infer(pixels);
  return logits.slice(0, allLabels().length);
}

/** The outputs of the model, by name. */
function infer(pixels) {
  const shape = [1, contract.height, contract.width, contract.channels];
  return call(learner ? 'infer' : 'serving_default', {image: {data: Float32Array.from(pixels), shape}});
}

/** Runs a signature on `{name: {data, shape}}`: `{name: Float32Array}`. */
const call = (signature, inputs) => inTurn(() => callNow(signature, inputs));

async function callNow(signature, inputs) {
  const tensors = {};
  for (const [name, {data, shape}] of Object.entries(inputs)) tensors[name] = new Tensor(data, shape);
  const outputs = await model.run(signature, tensors);
  const found = {};
  for (const [name, output] of Object.entries(outputs)) {
    const here = output.accelerator === 'wasm' ? output : await output.moveTo('wasm');
    found[name] = here.toTypedArray().slice();
    here.delete();
  }
  Object.values(tensors).forEach((tensor) => tensor.delete());
  return found;
}

/** The classes of the logits: the known ones, then the learned ones. */
const allLabels = () => labels.concat(learner?.labels ?? []);

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((x) => x / sum);
}

/** The input of the network for a picture, whose memory is freed. */
async function viewOf(source, crop) {
  const image = await decode(source);
  try {
    return centerView(image, contract, crop);
  } finally {
    image.close();
  }
}

async function classify(source) {
  const pixels = await viewOf(source, contract.center_crop);
  const began = performance.now();
  const logits = await run(pixels);
  const took = performance.now() - began;
  if (rejects(logits, contract.reject, labels.length)) showNone();
  else showAnswers(softmax(logits));
  showPixels(pixels);
  at('timing').textContent = `${took.toFixed(1)} ms for the network`;
}

/** Announces the answer to screen readers once, since the camera repeats it many times a second. */
function announce(answer) {
  if (at('said').textContent !== answer) at('said').textContent = answer;
}

function showAnswers(scores) {
  const best = scores.map((_, k) => k).sort((a, b) => scores[b] - scores[a]).slice(0, TOP);
  at('answers').replaceChildren(...best.map((k) => {
    const row = document.createElement('li');
    const share = `${(100 * scores[k]).toFixed(1)}%`;
    row.innerHTML = '<span class="label"></span><span class="score"></span><span class="bar"><i></i></span>';
    row.querySelector('.label').textContent = allLabels()[k];
    row.querySelector('.score').textContent = share;
    row.querySelector('i').style.width = share;
    return row;
  }));
  announce(allLabels()[best[0]]);
}

function showNone() {
  const row = document.createElement('li');
  row.innerHTML = '<span class="label">None of these</span>';
  at('answers').replaceChildren(row);
  announce('None of these');
}

function showPixels(pixels) {
  const {height, width, channels} = contract;
  const image = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[channels * i + c % channels];
    image.data[4 * i + 3] = 255;
  }
  at('pixels').getContext('2d').putImageData(image, 0, 0);
  at('view').hidden = false;
}

/** Removes the last picture and its answer. */
function clear() {
  shown = null;
  at('answers').replaceChildren();
  at('shown').hidden = true;
  at('view').hidden = true;
  at('timing').textContent = '';
  at('drop').classList.remove('full');
  announce('');
}

async function showFile(file) {
  stopCamera();
  try {
    await classify(file);
    say('');
    shown = file;
    URL.revokeObjectURL(at('shown').src);
    at('shown').src = URL.createObjectURL(file);
    at('shown').hidden = false;
    at('drop').classList.add('full');
  } catch (error) {
    clear();
    say(`${file.name} is not a picture that this browser can read (${error.message})`, true);
  }
}

async function startCamera() {
  if (!isSecureContext) return say(`The camera ${NEEDS_HTTPS}.`, true);
  at('camera').disabled = true;  // a second click would start a second camera
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
  } catch (error) {
    return say(`The camera is not available (${error.message}).`, true);
  } finally {
    at('camera').disabled = false;
  }
  at('video').srcObject = stream;
  await at('video').play();
  at('video').hidden = false;
  at('shown').hidden = true;
  shown = null;
  at('drop').classList.add('full');
  at('camera').textContent = 'Stop the camera';
  say('');
  try {
    while (stream) {
      await classify(at('video'));
      await new Promise(requestAnimationFrame);
    }
  } catch (error) {
    stopCamera();
    say(`The camera image cannot be classified (${error.message}).`, true);
  }
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  at('video').hidden = true;
  if (at('shown').hidden) at('drop').classList.remove('full');
  at('camera').textContent = 'Camera';
}

/** Learns a class from files, or from the camera if it is on. */
async function addClass(label, pictures) {
  if (labels.includes(label)) throw new Error(`the model already knows ${label}`);
  const all = [];
  for await (const picture of pictures) {
    const pixels = await viewOf(picture, contract.center_crop).catch(() => {
      throw new Error(`${picture.name ?? 'the camera image'} cannot be read as a picture`);
    });
    all.push(pixels);
    say(`Picture ${all.length} of ${label} …`);
  }
  const photos = [];
  for (const pixels of all) photos.push((await infer(pixels)).features);
  say(`Learning ${label} …`);
  await learner.learn(label, photos);
  let recognized = 0;
  for (const pixels of all) recognized += allLabels()[best(await run(pixels))] === label;
  at('forget').hidden = false;
  say(`Learned ${label} from ${all.length} pictures; recognizes ${recognized} of them.`);
  if (shown) await classify(shown);
}

async function* cameraPictures() {
  for (let i = 0; i < PHOTOS && stream; i++) {
    yield at('video');
    await new Promise((resolve) => setTimeout(resolve, MILLISECONDS_BETWEEN_PHOTOS));
  }
}

/** Handles a click on "Add a class", one at a time; shows errors. */
async function add(pictures) {
  const label = at('name').value.trim();
  if (!label) return say('Give the new class a name first.', true);
  for (const id of ['add', 'forget']) at(id).disabled = true;
  try {
    await addClass(label, pictures);
    at('name').value = '';
  } catch (error) {
    say(`The class was not added: ${error.message}.`, true);
  }
  for (const id of ['add', 'forget']) at(id).disabled = false;
}

async function forget() {
  await learner.forget();
  at('forget').hidden = true;
  say('The new classes are forgotten.');
  if (shown) await classify(shown);
}

function listenToLearner() {
  at('learn').hidden = false;
  at('forget').hidden = !learner.labels.length;
  at('learn').addEventListener('submit', (event) => {
    event.preventDefault();
    if (stream) add(cameraPictures());
    else at('photos').click();
  });
  at('photos').addEventListener('change', async ({target}) => {
    await add(Array.from(target.files));
    target.value = '';
  });
  at('forget').addEventListener('click', forget);
}

/** Runs the golden set in this browser. */
async function check() {
  if (!isSecureContext) return say(`The self-test ${NEEDS_HTTPS}.`, true);
  say('Testing …');
  const golden = await json('golden/golden.json');
  const tolerance = golden.tolerance['model.tflite'];
  const answers = [];
  let failed = 0, worst = 0, furthest = 0, photos = 0;
  for (const image of golden.images) {
    const expected = image.logits['model.tflite'];
    const pixels = await goldenPixels(image.file, 1);
    const found = await runKnown(pixels);
    answers.push(...found);
    const rejected = image.rejected['model.tflite'];
    const isRejected = (logits) => rejected === null || rejects(logits, contract.reject) === rejected;
    const distance = largestDifference(found, expected);
    let good = distance <= tolerance && isRejected(found) && await digest(pixels) === image.sha256;
    worst = Math.max(worst, distance);
    if (image.photo) {
      const own = await goldenPixels(image.photo, contract.center_crop);
      const difference = own.reduce((sum, x, i) => sum + Math.abs(x - pixels[i]), 0) / own.length;
      const logits = await runKnown(own);
      good &&= difference <= golden.photo_tolerance && isRejected(logits);
      if (isClear(expected, tolerance)) good &&= best(logits) === best(expected);
      furthest = Math.max(furthest, difference);
      photos++;
    }
    failed += !good;
  }
  const count = golden.images.length;
  const exact = golden.answers_sha256['model.tflite'];
  const own = exact && await digest(new Float32Array(answers).buffer);
  const same = own === exact ? 'same as at export' : 'different from the export: other kernels';
  say(`${count - failed} of ${count} images as expected\n` +
      `logits within ${worst.toPrecision(2)}, ${tolerance.toPrecision(2)} allowed\n` +
      (exact ? `outputs have sha256 ${own.slice(0, 16)}…, ${same}\n` : '') +
      `pixels of ${photos} photos within ${furthest.toPrecision(2)} levels on average, ` +
      `${golden.photo_tolerance} allowed`, failed > 0);
  document.body.dataset.check = failed ? 'failed' : 'passed';
}

/** The logits of the known classes. */
const runKnown = async (pixels) => Array.from(await run(pixels)).slice(0, labels.length);

const best = (values) => values.indexOf(Math.max(...values));

/** Whether errors of the logits up to the tolerance cannot change the best class. */
function isClear(logits, tolerance) {
  const [first, second] = [...logits].sort((a, b) => b - a);
  return first - second > 2 * tolerance;
}

function largestDifference(values, expected) {
  return Math.max(...expected.map((x, k) => Math.abs(x - values[k])));
}

async function goldenPixels(file, crop) {
  const blob = await (await fetch(`golden/${file}`)).blob();
  return viewOf(blob, crop);
}

async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Loads the model for the chosen accelerator; after an error, the previous model stays. */
async function load() {
  const choice = at('accelerator');
  try {
    const loaded = await loadAndCompile('model.tflite', {accelerator: choice.value});
    // For some layers of a model LiteRT.js needs another build, or it runs all on the CPU.
    const isAsChosen = loaded.options.accelerator === choice.value;
    if (choice.value === 'webgpu' && !(isAsChosen && loaded.isFullyAccelerated)) {
      loaded.delete();
      throw new Error('some layers do not run on it');
    }
    await inTurn(() => {
      model?.delete();
      model = loaded;
    });
  } catch (error) {
    if (!model) throw error;
    const failed = choice.selectedOptions[0].text;
    choice.value = accelerator;
    return say(`${failed} cannot run the model (${error.message}).`, true);
  }
  if ('train' in model.signatures) await startLearner();
  accelerator = choice.value;
  say('Ready.');
  if (shown) await classify(shown);
}

async function startLearner() {
  const {shape} = model.signatures.train.getInputDetails().find(({name}) => name === 'label');
  learner = new Learner(call, shape[1]);
  await learner.start();
}

/** Adds the GPU to the list if the browser has an adapter. LiteRT.js cannot train on it. */
async function offerGpu() {
  if (learner) return;
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  if (adapter) at('accelerator').add(new Option('GPU (WebGPU)', 'webgpu'));
}

function listen() {
  const drop = at('drop');
  for (const id of ['file', 'camera', 'check', 'accelerator']) at(id).disabled = false;
  at('file').addEventListener('change', async ({target}) => {
    if (target.files[0]) await showFile(target.files[0]);
    target.value = '';  // the same file can be chosen again
  });
  at('camera').addEventListener('click', () => stream ? stopCamera() : startCamera());
  at('check').addEventListener('click', () => {
    check().catch((error) => say(`The self-test failed (${error.message}).`, true));
  });
  if (learner) listenToLearner();
  at('accelerator').addEventListener('change', async ({target}) => {
    target.disabled = true;  // two choices at once would show the one and run the other
    await load().catch((error) => say(error.message, true));
    target.disabled = false;
  });
  drop.addEventListener('dragover', (event) => { event.preventDefault(); drop.classList.add('over'); });
  drop.addEventListener('dragleave', () => drop.classList.remove('over'));
  drop.addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    if (event.dataTransfer.files[0]) showFile(event.dataTransfer.files[0]);
  });
}

try {
  await loadLiteRt('./litert/core/wasm/');
  contract = await json('preprocess.json');
  labels = (await (await fetch('labels.txt')).text()).replace(/\n$/, '').split('\n');
  await load();
  await offerGpu();
  listen();
  if (new URLSearchParams(location.search).has('check')) await check();
} catch (error) {
  say(`The page cannot start: ${error.message}. Copy the complete folder again; README.md describes how to serve it.`, true);
}
