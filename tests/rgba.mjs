// For tests of preprocess.js: a file of RGBA bytes as `decode` gives a picture.
import {readFileSync} from 'node:fs';

/** {width, height, read}; read throws where it is asked for more pixels than `most` at once. */
export function picture(file, width, height, most = Infinity) {
  const data = readFileSync(file);
  const read = (left, top, w, h) => {
    if (w * h > most) throw new Error(`a strip of ${w}×${h} pixels`);
    const rows = Array.from({length: h}, (_, y) => ((top + y) * width + left) * 4);
    return Buffer.concat(rows.map((first) => data.subarray(first, first + 4 * w)));
  };
  return {width, height, read};
}
