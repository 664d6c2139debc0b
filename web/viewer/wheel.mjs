/** Whom a wheel is for. */

/**
 * Whether a wheel is over something that scrolls: it then scrolls that, and nothing behind it.
 * @param {WheelEvent} event
 * @param {Element} root what is behind it does not count
 */
export function scrollsHere(event, root) {
  const path = event.composedPath();
  const inside = path.slice(0, path.indexOf(root));
  return inside.some((target) => target instanceof Element && isScrollable(target));
}

/** @param {Element} target */
function isScrollable(target) {
  return target.scrollHeight > target.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(target).overflowY);
}
