// `npm install` runs this: copies the files of LiteRT.js that the page loads into litert/.
const {cpSync, rmSync} = require('node:fs');

const FILES = [
  'core/package.json', 'core/dist/index.js', 'wasm-utils/package.json', 'wasm-utils/dist/index.js',
  // With and without relaxed SIMD; the page loads one.
  'core/wasm/litert_wasm_internal.js', 'core/wasm/litert_wasm_internal.wasm',
  'core/wasm/litert_wasm_compat_internal.js', 'core/wasm/litert_wasm_compat_internal.wasm',
];

rmSync('litert', {recursive: true, force: true});
for (const file of FILES) cpSync(`node_modules/@litertjs/${file}`, `litert/${file}`);
