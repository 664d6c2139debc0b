/** Findings as sentences: templates of the core with their values, formatted as Python formats them. */

/** @typedef {Record<string, string | number>} Values what a finding says, by name */

const FIELD = /\{([^{}:]*)(?::([^{}]*))?\}/g;
const SPEC = /^\.(\d+)([fg%])$/;

/**
 * A sentence: `{name}` stands for a value as it is, `{name:.2f}`, `{name:.2g}` and `{name:.0%}` for a number.
 * @param {string} template
 * @param {Values} values
 */
export function worded(template, values) {
  return template.replace(FIELD, (_, name, spec) => {
    const value = values[name];
    if (value === undefined) throw new Error(`a finding has no value '${name}' for its sentence: ${template}`);
    return spec === undefined ? String(value) : formatted(Number(value), spec);
  });
}

/**
 * @param {number} value
 * @param {string} spec as in Python, such as ".2f"
 */
export function formatted(value, spec) {
  const [, digits, kind] = spec.match(SPEC) ?? [];
  if (digits === undefined) throw new Error(`numbers of a sentence are not formatted by '${spec}'`);
  if (!Number.isFinite(value)) throw new Error(`a sentence has ${value} where a number is expected`);
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  if (kind === "g") return sign + significant(Math.abs(value), Math.max(1, Number(digits)));
  if (kind === "%") return `${sign}${fixed(Math.abs(value * 100), Number(digits))}%`;
  return sign + fixed(Math.abs(value), Number(digits));
}

/**
 * With so many digits after the point.
 * @param {number} value not negative
 * @param {number} digits
 */
function fixed(value, digits) {
  const text = String(scaled(value, digits)).padStart(digits + 1, "0");
  return digits ? `${text.slice(0, -digits)}.${text.slice(-digits)}` : text;
}

/**
 * With so many digits that count, without zeros at the end; as a power of 10 where it is very large or small.
 * @param {number} value not negative
 * @param {number} digits
 */
function significant(value, digits) {
  if (value === 0) return "0";
  let exponent = Math.floor(Math.log10(value)); // or one beside it: of the rounded number it is what counts
  let text = String(scaled(value, digits - 1 - exponent));
  while (text.length !== digits) {
    exponent += text.length > digits ? 1 : -1;
    text = String(scaled(value, digits - 1 - exponent));
  }
  if (-4 <= exponent && exponent < digits) return withoutZeros(fixed(value, digits - 1 - exponent));
  const power = `${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  return `${withoutZeros(`${text.slice(0, 1)}.${text.slice(1)}`)}e${power}`;
}

/** @param {string} text */
const withoutZeros = (text) => (text.includes(".") ? text.replace(/\.?0*$/, "") : text);

/**
 * `value * 10 ** digits`, rounded to the nearest integer, and to the even one of two. It is exact, which `toFixed` is
 * not where a number lies in the middle: there it takes the larger.
 * @param {number} value not negative
 * @param {number} digits
 */
function scaled(value, digits) {
  let denominator = 1n;
  for (; !Number.isInteger(value); value *= 2) denominator *= 2n;
  let numerator = BigInt(value);
  if (digits < 0) denominator *= 10n ** BigInt(-digits);
  else numerator *= 10n ** BigInt(digits);
  const rounded = numerator / denominator;
  const twice = 2n * (numerator % denominator);
  return twice > denominator || (twice === denominator && rounded % 2n) ? rounded + 1n : rounded;
}
