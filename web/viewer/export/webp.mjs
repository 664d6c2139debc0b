/** Pictures of a browser's WebP encoder, one after the other: an animated WebP. Container: RFC 9649. */

/**
 * @param {Uint8Array[]} frames WebP files of one size
 * @param {number} width
 * @param {number} height
 * @param {number} milliseconds of each frame
 * @returns {Uint8Array<ArrayBuffer>} the file; it plays for ever
 */
export function animate(frames, width, height, milliseconds) {
  const extended = chunk("VP8X", [0b10, 0, 0, 0, ...int24(width - 1), ...int24(height - 1)]);
  const animation = chunk("ANIM", [255, 255, 255, 255, 0, 0]);
  const pictures = frames.map((frame) => {
    const head = [...int24(0), ...int24(0), ...int24(width - 1), ...int24(height - 1), ...int24(milliseconds), 0b10];
    return chunk("ANMF", join([Uint8Array.from(head), pixelsOf(frame)]));
  });
  return chunk("RIFF", join([ascii("WEBP"), extended, animation, ...pictures]));
}

/**
 * The chunks of a single picture that hold its pixels.
 * @param {Uint8Array} file
 */
function pixelsOf(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const chunks = [];
  for (let at = 12; at + 8 <= file.length;) {
    const name = String.fromCharCode(...file.subarray(at, at + 4));
    const length = view.getUint32(at + 4, true);
    const end = at + 8 + length + (length % 2);
    if (["VP8 ", "VP8L", "ALPH"].includes(name)) chunks.push(file.subarray(at, end));
    at = end;
  }
  if (!chunks.length) throw new Error("this browser cannot write WebP pictures: use another, or save the view as PNG.");
  return join(chunks);
}

/** @param {string} name @param {ArrayLike<number>} data */
function chunk(name, data) {
  const bytes = Uint8Array.from(data);
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length, true);
  return join([ascii(name), length, bytes, new Uint8Array(bytes.length % 2)]);
}

/** @param {string} text */
function ascii(text) {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

/** @param {number} value */
function int24(value) {
  return [value & 255, (value >> 8) & 255, (value >> 16) & 255];
}

/** @param {Uint8Array[]} parts */
function join(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
