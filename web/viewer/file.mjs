/**
 * The file of an I2AM Viewer: safetensors, with a header of ours in its metadata. `i2am_core/view.py` says what is in it.
 */

const ARRAYS = { U8: Uint8Array, I32: Int32Array, F32: Float32Array };

/**
 * @typedef {object} Tensor
 * @property {number[]} shape
 * @property {Uint8Array | Int32Array | Float32Array} data a view into the file, row-major
 */

/**
 * @param {ArrayBuffer} buffer the whole file
 * @returns {{header: object, tensors: Map<string, Tensor>}}
 * @throws {Error} in one sentence, for what is no such file
 */
export function readFile(buffer) {
  const { start, entries } = readEntries(buffer);
  const { __metadata__: metadata = {}, ...places } = entries;
  if (!metadata.i2am_view) throw new Error("this is no file of an I2AM Viewer: queue the workflow again.");
  const header = JSON.parse(metadata.i2am_view);
  if (header.version !== 1) throw new Error(`this file has format ${header.version}, expected 1: reload the page.`);
  const tensors = new Map();
  for (const [name, place] of Object.entries(places)) tensors.set(name, readTensor(buffer, start, name, place));
  return { header, tensors };
}

function readEntries(buffer) {
  const length = buffer.byteLength < 8 ? NaN : Number(new DataView(buffer).getBigUint64(0, true));
  if (!(8 + length <= buffer.byteLength)) {
    throw new Error(`the file is damaged: it ends after ${buffer.byteLength} bytes. Queue the workflow again.`);
  }
  try {
    return { start: 8 + length, entries: JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length))) };
  } catch {
    throw new Error("the file is damaged: its header cannot be read. Queue the workflow again.");
  }
}

function readTensor(buffer, start, name, { dtype, shape, data_offsets: [from, to] }) {
  const ArrayOf = ARRAYS[dtype];
  const count = shape.reduce((product, length) => product * length, 1);
  if (!ArrayOf || to - from !== count * ArrayOf.BYTES_PER_ELEMENT || start + to > buffer.byteLength) {
    throw new Error(`the file is damaged at '${name}'. Queue the workflow again.`);
  }
  const aligned = (start + from) % ArrayOf.BYTES_PER_ELEMENT === 0;
  const data = aligned ? new ArrayOf(buffer, start + from, count) : new ArrayOf(buffer.slice(start + from, start + to));
  return { shape, data };
}

/**
 * Fetch a file with its progress.
 * @param {() => Promise<Response>} open asks for the file
 * @param {number} bytes how long it is known to be
 * @param {(part: number) => void} onProgress called with 0 to 1
 * @returns {Promise<ArrayBuffer>}
 */
export async function download(open, bytes, onProgress) {
  const response = await open();
  if (!response.ok) throw new Gone(`the server answered ${response.status}`);
  const length = Number(response.headers.get("Content-Length")) || bytes;
  const chunks = [];
  let got = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    got += value.length;
    onProgress(length ? Math.min(1, got / length) : 0);
  }
  const whole = new Uint8Array(got);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole.buffer;
}

/** The file is not on the server any more: ComfyUI empties its temp folder when it starts. */
export class Gone extends Error {}
