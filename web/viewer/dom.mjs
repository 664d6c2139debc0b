/** Elements in one line. */

const SVG = "http://www.w3.org/2000/svg";
const IN_SVG = new Set(["svg", "rect", "path", "text", "g"]);

/** An element with attributes, listeners (`onclick`), properties (`.value`) and children. */
export function element(tag, attributes = {}, ...children) {
  const node = IN_SVG.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith(".")) node[name.slice(1)] = value;
    else if (value !== false && value !== null && value !== undefined)
      node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A menu of `[value, words]`, with a name for those who cannot see it. */
export function menu(name, options, onChange) {
  const select = element("select", { "aria-label": name, title: name, onchange: () => onChange(select.value) });
  select.append(...options.map(([value, words]) => element("option", { value }, words)));
  return select;
}

/** Put other options into a menu; one that offers nothing to choose is hidden. */
export function fill(select, options, value) {
  select.replaceChildren(
    ...options.map(([key, words, disabled]) => element("option", { value: key, disabled }, words)),
  );
  select.value = String(value);
  select.hidden = options.length < 2;
}
