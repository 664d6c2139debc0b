/** A viewer's file as bytes again: what `readFile` reads. */

/** @import { Tensor, ViewFile } from "../file.mjs" */

const ALIGNED = 8; // bytes: safetensors' header ends on a multiple

/** @param {Tensor["data"]} data */
const typeOf = (data) => (data instanceof Uint8Array ? "U8" : data instanceof Int32Array ? "I32" : "F32");

/** How many bytes the tensors of a file have. @param {ViewFile} file */
export function sizeOf({ tensors }) {
  return [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
}

/**
 * @param {ViewFile} file
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function writeFile(file) {
  const widestFirst = [...file.tensors].sort(([, a], [, b]) => b.data.BYTES_PER_ELEMENT - a.data.BYTES_PER_ELEMENT);
  /** @type {Record<string, unknown>} */
  const entries = { __metadata__: { i2am_view: JSON.stringify(file.header) } };
  let end = 0;
  for (const [name, { shape, data }] of widestFirst) {
    entries[name] = { dtype: typeOf(data), shape, data_offsets: [end, end + data.byteLength] };
    end += data.byteLength;
  }
  const plain = new TextEncoder().encode(JSON.stringify(entries));
  const start = 8 + Math.ceil(plain.length / ALIGNED) * ALIGNED;
  const bytes = new Uint8Array(start + end).fill(0x20, 8, start);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(start - 8), true);
  bytes.set(plain, 8);
  let at = start;
  for (const [, { data }] of widestFirst) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}
