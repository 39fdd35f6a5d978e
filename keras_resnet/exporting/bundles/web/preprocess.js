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

/**
 * A photo -> the input of the network, Uint8Array of height * width * channels: RGB, or luma.
 *
 * preprocess.json has what `input` needs: height, width, channels and fit. "crop" resizes the part in
 * the middle that has the aspect ratio of the input, `crop` of the side that limits it; "pad" resizes
 * all of the photo to fit, in the middle of black; "stretch" resizes both sides independently.
 */
export function centerView({data, width, height}, input, crop) {
  const [h, w] = part(height, width, input, crop);
  const [rows, columns] = resized(h, w, input);
  const left = Math.floor((width - w) / 2), top = Math.floor((height - h) / 2);
  let taps = triangles(w, columns);
  const narrow = new Float32Array(h * columns * 3);  // (h, columns, 3)
  for (let y = 0; y < h; y++) {
    const line = ((top + y) * width + left) * 4;
    for (let x = 0; x < columns; x++) {
      const {first, weights} = taps[x];
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        weights.forEach((weight, i) => sum += weight * data[line + (first + i) * 4 + c]);
        narrow[(y * columns + x) * 3 + c] = sum;
      }
    }
  }
  taps = triangles(h, rows);
  const pixels = new Uint8Array(input.height * input.width * input.channels);
  const above = Math.floor((input.height - rows) / 2), before = Math.floor((input.width - columns) / 2);
  for (let y = 0; y < rows; y++) {
    const {first, weights} = taps[y];
    for (let x = 0; x < columns; x++) {
      const rgb = [0, 1, 2].map((c) => {
        let sum = 0;
        weights.forEach((weight, j) => sum += weight * narrow[((first + j) * columns + x) * 3 + c]);
        return Math.min(Math.max(roundToEven(sum), 0), 255);
      });
      const at = ((above + y) * input.width + before + x) * input.channels;
      pixels.set(input.channels === 3 ? rgb : [luma(rgb)], at);
    }
  }
  return pixels;
}

// Height and width of the part of a photo that is shown.
function part(height, width, input, crop) {
  if (input.fit !== 'crop') return [height, width];
  const share = (side) => Math.max(roundToEven(Math.fround(side * Math.fround(crop))), 1);
  const other = (side, length, whole, most) =>
      Math.min(Math.max(Math.floor((side * length + Math.floor(whole / 2)) / whole), 1), most);
  if (height * input.width <= width * input.height) {
    const h = share(height);
    return [h, other(h, input.width, input.height, width)];
  }
  const w = share(width);
  return [other(w, input.height, input.width, height), w];
}

// Height and width that such a part is resized to; in float32, as in the other clients.
function resized(height, width, input) {
  if (input.fit !== 'pad') return [input.height, input.width];
  const across = Math.fround(width * input.height), down = Math.fround(height * input.width);
  const rounded = (length, side, most) => Math.min(
      Math.max(Math.floor(Math.fround(Math.fround(length / side) + 0.5)), 1), most);
  if (down >= across) return [input.height, rounded(across, height, input.width)];
  return [rounded(down, width, input.height), input.width];
}

function luma([red, green, blue]) {
  return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
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
