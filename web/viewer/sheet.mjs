/** What is on the screen as a picture to keep: both panes side by side, with their words. */

const PANE = 512;
const GAP = 16;
const LINE = 22;

/**
 * Draw on a canvas. Each pane: `{picture, heat, lights, opacity, bare, title, detail, shapes(context, width, height)}`.
 * @returns {HTMLCanvasElement}
 */
export function drawSheet(panes, footer) {
  const heights = panes.map(({ heat }) => Math.round((PANE * heat.height) / heat.width));
  const canvas = document.createElement("canvas");
  canvas.width = even(panes.length * (PANE + GAP) + GAP);
  canvas.height = even(Math.max(...heights) + 2 * LINE + GAP + footer.length * LINE + GAP);
  const context = canvas.getContext("2d");
  context.fillStyle = "#181a1f";
  context.fillRect(0, 0, canvas.width, canvas.height);
  panes.forEach((pane, number) => drawPane(context, pane, GAP + number * (PANE + GAP), 2 * LINE + 6, heights[number]));
  const below = Math.max(...heights) + 2 * LINE + GAP;
  footer.forEach((line, number) =>
    write(context, line, GAP, below + (number + 0.5) * LINE, "#b8bcc6", canvas.width - 2 * GAP),
  );
  return canvas;
}

function drawPane(context, pane, left, top, height) {
  write(context, pane.title, left, LINE * 0.75, "#ffffff", PANE, "600 ");
  write(context, pane.detail, left, LINE * 1.6, "#b8bcc6", PANE);
  context.save();
  context.translate(left, top);
  context.beginPath();
  context.rect(0, 0, PANE, height);
  context.clip();
  context.fillStyle = "#000000";
  context.fillRect(0, 0, PANE, height);
  if (pane.picture) {
    context.globalAlpha = pane.lights ? 1 - 0.6 * pane.opacity : 1;
    context.drawImage(pane.picture, 0, 0, PANE, height);
  }
  if (pane.heat && pane.visible) {
    context.globalAlpha = pane.lights ? pane.opacity : 1;
    context.globalCompositeOperation = pane.lights ? "lighter" : "source-over";
    context.drawImage(pane.heat, 0, 0, PANE, height);
  }
  context.globalAlpha = 1;
  context.globalCompositeOperation = "source-over";
  context.lineWidth = 2;
  if (pane.outline) stroke(context, pane.outline, PANE, height, "#ffffff", [6, 4]);
  for (const [x0, y0, x1, y1] of pane.boxes) {
    context.strokeStyle = "#ffffff";
    context.setLineDash([]);
    context.strokeRect(x0 * PANE, y0 * height, Math.max(3, (x1 - x0) * PANE), Math.max(3, (y1 - y0) * height));
  }
  context.restore();
}

function stroke(context, path, width, height, color, dashes) {
  const scaled = new Path2D();
  scaled.addPath(new Path2D(path), new DOMMatrix([width, 0, 0, height, 0, 0]));
  context.strokeStyle = color;
  context.setLineDash(dashes);
  context.stroke(scaled);
}

function write(context, text, x, y, color, width, weight = "") {
  context.font = `${weight}14px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.fillStyle = color;
  context.fillText(text, x, y, width);
}

function even(value) {
  return value + (value % 2);
}

/** The file of a canvas. */
export function encode(canvas, type) {
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error(`this browser cannot write ${type}.`))),
      type,
      0.92,
    );
  });
}

/** Offer a file under a name. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000); // the download has begun by then
}
