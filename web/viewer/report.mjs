/** A selection as JSON: numbers that are none become null. */

export function encodeReport(report) {
  return JSON.stringify(report, (_, value) => (typeof value === "number" && !Number.isFinite(value) ? null : value), 2);
}
