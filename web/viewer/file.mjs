/**
 * The file of an I2AM Viewer: safetensors, with a header of ours in its metadata. `i2am_core/showing/view.py` says what is in it.
 */

/** @import { FileHeader } from "./header.d.ts" */

const ARRAYS = { U8: Uint8Array, I32: Int32Array, F32: Float32Array };
const VERSION = 1; // of the header, that this page reads

/**
 * @typedef {object} Tensor
 * @property {number[]} shape
 * @property {Uint8Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Float32Array<ArrayBuffer>} data a view into the file, row-major
 */

/** @typedef {{header: FileHeader, tensors: Map<string, Tensor>}} ViewFile */

/** @typedef {{dtype: string, shape: number[], data_offsets: [number, number]}} Entry of a tensor, in safetensors' header */

/**
 * @param {ArrayBuffer} buffer the whole file
 * @returns {ViewFile}
 * @throws {Error} in one sentence, for what is no such file
 */
export function readFile(buffer) {
  const { start, entries } = readEntries(buffer);
  const { __metadata__: metadata = {}, ...places } = entries;
  if (!metadata.i2am_view) throw new Error("this is no file of an I2AM Viewer: queue the workflow again.");
  /** @type {FileHeader} */
  const header = JSON.parse(metadata.i2am_view);
  if (header.version !== VERSION)
    throw new Error(`this file has format ${header.version}, expected ${VERSION}: reload the page.`);
  const tensors = new Map();
  for (const [name, place] of Object.entries(places)) tensors.set(name, readTensor(buffer, start, name, place));
  return { header, tensors };
}

/**
 * A tensor that a file must have.
 * @param {Pick<ViewFile, "tensors">} file
 * @param {string} name
 */
export function tensorOf({ tensors }, name) {
  const tensor = tensors.get(name);
  if (!tensor) throw new Error(`the file is damaged: it has no '${name}'. Queue the workflow again.`);
  return tensor;
}

/**
 * @param {ArrayBuffer} buffer
 * @returns {{start: number, entries: Record<string, Entry> & {__metadata__?: Record<string, string>}}} start: of the
 *   tensors' bytes
 */
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

/**
 * @param {ArrayBuffer} buffer
 * @param {number} start
 * @param {string} name
 * @param {Entry} entry
 * @returns {Tensor}
 */
function readTensor(buffer, start, name, { dtype, shape, data_offsets: [from, to] }) {
  const ArrayOf = dtype in ARRAYS ? ARRAYS[/** @type {keyof typeof ARRAYS} */ (dtype)] : null;
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
  if (!response.ok || !response.body) throw new Gone(`the server answered ${response.status}`);
  const length = Number(response.headers.get("Content-Length")) || bytes;
  const chunks = [];
  let received = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    received += value.length;
    onProgress(length ? Math.min(1, received / length) : 0);
  }
  const whole = new Uint8Array(received);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole.buffer;
}

/** The file is not on the server any more: ComfyUI empties its temp folder when it starts. */
export class Gone extends Error {}
