/** A selection as JSON. */

/**
 * Numbers that are none become null, since JSON has no other word for them.
 * @param {object} report
 */
export function encodeReport(report) {
  return JSON.stringify(report, (_, value) => (typeof value === "number" && !Number.isFinite(value) ? null : value), 2);
}
