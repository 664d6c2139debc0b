/** Elements in one line. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Attributes by name: true is one without a value, and false, null or undefined is none. Those that begin with `on` are
 * listeners.
 * @typedef {Record<string, string | number | boolean | null | undefined | (() => void)>} Attributes
 */

/** @typedef {Node | string | null | undefined} Child null and undefined are left out */

/** @typedef {[value: string | number, words: string, disabled?: boolean]} Option of a menu */

/**
 * An element of HTML with attributes, listeners and children.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 */
export function element(tag, attributes = {}, ...children) {
  return completed(document.createElement(tag), attributes, children);
}

/**
 * The same, of SVG.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 */
export function svgElement(tag, attributes = {}, ...children) {
  return completed(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * @template {Element} E
 * @param {E} node
 * @param {Attributes} attributes
 * @param {Child[]} children
 */
function completed(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/**
 * A menu, with a name for those who cannot see it, and no options yet.
 * @param {string} name
 * @param {string} help
 * @param {(value: string) => void} onChange
 */
export function menu(name, help, onChange) {
  const select = element("select", { "aria-label": name, title: help });
  select.addEventListener("change", () => onChange(select.value));
  return select;
}

/**
 * Put other options into a menu; one that offers no choice is hidden.
 * @param {HTMLSelectElement} select
 * @param {Option[]} options
 * @param {string | number} value
 */
export function fill(select, options, value) {
  select.replaceChildren(
    ...options.map(([key, words, disabled]) => element("option", { value: key, disabled }, words)),
  );
  select.value = String(value);
  select.hidden = options.length < 2;
}

/**
 * What is drawn with on a canvas.
 * @param {HTMLCanvasElement} canvas
 * @throws {Error} where the browser has no memory left for one
 */
export function contextOf(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser has no memory left to draw: close other tabs.");
  return context;
}
