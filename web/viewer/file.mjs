/**
 * The file of an I2AM Viewer: safetensors, with a header of ours in its metadata. `i2am_core/showing/view.py` says what is in it.
 */

import { check, checkHeader, isCount, isObject } from "./check.mjs";

/** @import { FileHeader } from "./header.d.ts" */

const ARRAYS = { U8: Uint8Array, I32: Int32Array, F32: Float32Array };
const VERSION = 1; // of the header, that this page reads
const SIDES = 8; // of a tensor, at most

/**
 * @typedef {object} Tensor
 * @property {number[]} shape
 * @property {Uint8Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Float32Array<ArrayBuffer>} data a view into the file, row-major
 */

/** @typedef {{header: FileHeader, tensors: Map<string, Tensor>}} ViewFile */

/**
 * @param {ArrayBuffer} buffer the whole file
 * @returns {ViewFile} in which all fits that the page relies on
 * @throws {Error} in one sentence, for what is no such file
 */
export function readFile(buffer) {
  const { start, entries } = readEntries(buffer);
  const { __metadata__: metadata = {}, ...places } = entries;
  if (typeof metadata?.i2am_view !== "string") {
    throw new Error("this is no file of an I2AM Viewer: queue the workflow again.");
  }
  const header = parsed(metadata.i2am_view);
  if (header.version !== VERSION) {
    throw new Error(
      `this file has format ${JSON.stringify(header.version)?.slice(0, 40)}, expected ${VERSION}: reload the page.`,
    );
  }
  const tensors = new Map();
  let end = start;
  for (const [name, place] of Object.entries(places)) {
    const tensor = readTensor(buffer, start, name, place);
    tensors.set(name, tensor);
    end += tensor.data.byteLength;
  }
  check(end === buffer.byteLength, `its tensors end after ${end} bytes, and it after ${buffer.byteLength}`);
  checkHeader(header, tensors);
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
 * @returns {{start: number, entries: any}} start: of the tensors' bytes; entries: of each tensor, and the metadata
 */
function readEntries(buffer) {
  const size = buffer.byteLength;
  const length = size < 8 ? BigInt(size) : new DataView(buffer).getBigUint64(0, true);
  check(8n + length <= BigInt(size), `it ends after ${size} bytes`);
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, Number(length)));
    return { start: 8 + Number(length), entries: parsed(text) };
  } catch {
    throw new Error("the file is damaged: its header cannot be read. Queue the workflow again.");
  }
}

/**
 * An object in JSON.
 * @param {string} text
 * @returns {any}
 */
function parsed(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  check(isObject(value), "its header cannot be read");
  return value;
}

/**
 * @param {ArrayBuffer} buffer
 * @param {number} start
 * @param {string} name
 * @param {any} entry of the tensor, in safetensors' header
 * @returns {Tensor}
 */
function readTensor(buffer, start, name, entry) {
  const damaged = `'${name.slice(0, 100)}' is not where or what its header says`;
  check(isObject(entry) && Object.hasOwn(ARRAYS, entry.dtype), damaged);
  const ArrayOf = ARRAYS[/** @type {keyof typeof ARRAYS} */ (entry.dtype)];
  const { shape, data_offsets: offsets } = entry;
  const sizes = [shape, offsets].every(
    (list) => Array.isArray(list) && list.length <= SIDES && list.every((x) => isCount(x)),
  );
  check(sizes && offsets.length === 2, damaged);
  const [from, to] = offsets;
  const count = shape.reduce((/** @type {number} */ product, /** @type {number} */ length) => product * length, 1);
  check(from <= to && start + to <= buffer.byteLength && to - from === count * ArrayOf.BYTES_PER_ELEMENT, damaged);
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
