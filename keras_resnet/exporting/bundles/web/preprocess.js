// Preprocessing of a picture, as described in preprocess.json. The resize is written in JavaScript,
// because a canvas resizes differently in each browser.

// Pixels of a strip. Phones limit the size of a canvas to less than that of a photo.
const STRIP_PIXELS = 2 ** 23;

/**
 * A picture (file, ImageBitmap or video) -> its upright pixels on white, of a GIF on black:
 * {width, height, read, close}, where read(left, top, width, height) returns the RGBA of a strip,
 * and close() frees the memory of a file's picture: 50 MB for a photo.
 */
export async function decode(source) {
  const bitmap = source instanceof Blob
      ? await createImageBitmap(source, {imageOrientation: 'from-image', colorSpaceConversion: 'none'})
      : source;
  const width = bitmap.videoWidth ?? bitmap.width;
  const height = bitmap.videoHeight ?? bitmap.height;
  const read = (left, top, w, h) => {
    const context = new OffscreenCanvas(w, h).getContext('2d', {willReadFrequently: true});
    context.fillStyle = source.type === 'image/gif' ? 'black' : 'white';  // as in the training
    context.fillRect(0, 0, w, h);
    context.drawImage(bitmap, -left, -top);
    return context.getImageData(0, 0, w, h).data;
  };
  const close = () => { if (source instanceof Blob) bitmap.close(); };
  return {width, height, read, close};
}

/**
 * A photo -> the input of the network, Uint8Array of height * width * channels: RGB, or luma.
 *
 * `input` has height, width, channels and fit, as in preprocess.json. "crop" resizes the centre part
 * with the aspect ratio of the input, a share `crop` of the limiting side; "pad" resizes the whole
 * photo to fit, and pads with black; "stretch" resizes both sides independently.
 */
export function centerView({width, height, read}, input, crop) {
  const [h, w] = part(height, width, input, crop);
  const [rows, columns] = resized(h, w, input);
  const left = Math.floor((width - w) / 2), top = Math.floor((height - h) / 2);
  let taps = triangles(w, columns);
  const narrow = new Float32Array(h * columns * 3);  // (h, columns, 3)
  const most = Math.max(Math.floor(STRIP_PIXELS / w), 1);  // rows of a strip
  let strip;
  for (let y = 0; y < h; y++) {
    if (y % most === 0) strip = read(left, top + y, w, Math.min(most, h - y));
    const line = (y % most) * w * 4;
    for (let x = 0; x < columns; x++) {
      const {first, weights} = taps[x];
      narrow.set(weighed(strip, line + first * 4, 4, weights), (y * columns + x) * 3);
    }
  }
  taps = triangles(h, rows);
  const pixels = new Uint8Array(input.height * input.width * input.channels);
  const above = Math.floor((input.height - rows) / 2), before = Math.floor((input.width - columns) / 2);
  for (let y = 0; y < rows; y++) {
    const {first, weights} = taps[y];
    for (let x = 0; x < columns; x++) {
      const rgb = weighed(narrow, (first * columns + x) * 3, columns * 3, weights)
          .map((sum) => Math.min(Math.max(roundToEven(sum), 0), 255));
      const at = ((above + y) * input.width + before + x) * input.channels;
      pixels.set(input.channels === 3 ? rgb : [luma(rgb)], at);
    }
  }
  return pixels;
}

// The weighted sum of pixels, `step` apart. A plain loop, for speed: it runs for every pixel.
function weighed(values, first, step, weights) {
  let red = 0, green = 0, blue = 0;
  for (let i = 0, at = first; i < weights.length; i++, at += step) {
    red += weights[i] * values[at];
    green += weights[i] * values[at + 1];
    blue += weights[i] * values[at + 2];
  }
  return [red, green, blue];
}

// Height and width of the part of a photo that is classified.
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

// Height and width of that part after the resize; in float32, as in the other clients.
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

// For each output pixel, the weights of input pixels, a triangle two output steps wide: bilinear
// and antialiased.
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
