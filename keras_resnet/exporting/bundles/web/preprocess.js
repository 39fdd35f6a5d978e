// Preprocessing of a picture, as preprocess.json describes. The resize is written in JavaScript,
// because a canvas resizes differently in each browser.

/** A picture (file, ImageBitmap or video) -> its upright pixels on white: ImageData. */
export async function decode(source) {
  const bitmap = source instanceof Blob
      ? await createImageBitmap(source, {imageOrientation: 'from-image', colorSpaceConversion: 'none'})
      : source;
  const width = bitmap.videoWidth ?? bitmap.width;
  const height = bitmap.videoHeight ?? bitmap.height;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.fillStyle = 'white';
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, width, height);
}

/** The middle square, `crop` of the shorter side, resized: Uint8Array of size * size * 3, RGB. */
export function centerView({data, width, height}, size, crop) {
  const side = Math.max(roundToEven(Math.fround(Math.min(width, height) * Math.fround(crop))), 1);
  const left = Math.floor((width - side) / 2), top = Math.floor((height - side) / 2);
  const taps = triangles(side, size);
  const narrow = new Float32Array(side * size * 3);  // (side, size, 3)
  for (let y = 0; y < side; y++) {
    const line = ((top + y) * width + left) * 4;
    for (let x = 0; x < size; x++) {
      const {first, weights} = taps[x];
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        weights.forEach((weight, i) => sum += weight * data[line + (first + i) * 4 + c]);
        narrow[(y * size + x) * 3 + c] = sum;
      }
    }
  }
  const pixels = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y++) {
    const {first, weights} = taps[y];
    for (let i = 0; i < size * 3; i++) {
      let sum = 0;
      weights.forEach((weight, j) => sum += weight * narrow[(first + j) * size * 3 + i]);
      pixels[y * size * 3 + i] = Math.min(Math.max(roundToEven(sum), 0), 255);
    }
  }
  return pixels;
}

// For each output pixel the input pixels under a triangle as wide as the step from one output
// pixel to the next: bilinear and antialiased.
function triangles(side, size) {
  const scale = side / size, reach = Math.max(scale, 1);
  return Array.from({length: size}, (_, at) => {
    const middle = (at + 0.5) * scale;
    const first = Math.max(Math.ceil(middle - reach - 0.5), 0);
    const last = Math.min(Math.floor(middle + reach - 0.5), side - 1);
    const weights = Array.from({length: last - first + 1},
        (_, i) => Math.max(1 - Math.abs(first + i + 0.5 - middle) / reach, 0));
    const sum = weights.reduce((a, b) => a + b);
    return {first, weights: weights.map((weight) => weight / sum)};
  });
}

function roundToEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
