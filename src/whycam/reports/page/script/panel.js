// One picture with at most one map on it. Maps are drawn a few at a time, so that a frame is never late.
const FRAME_BUDGET = 6; // milliseconds
const LARGEST_CANVAS = 1024;
const STATES = Object.fromEntries(INDEX.states.map((text, number) => [text, number]));
const drawn = new WeakMap();
const queue = new Set();
let drawing = false;

function later(job) {
  queue.add(job);
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(drawSome);
}

function drawSome() {
  const end = performance.now() + FRAME_BUDGET;
  for (const job of queue) {
    queue.delete(job);
    job();
    if (performance.now() > end) break;
  }
  drawing = queue.size > 0;
  if (drawing) requestAnimationFrame(drawSome);
}

function ratioOf(image) {
  const [height, width] = [INDEX.heights[image], INDEX.widths[image]];
  return height > 0 ? width / height : null;
}

function stateText(column, image) {
  const state = INDEX.columns[column].states[image];
  return state === STATES.shown ? "" : INDEX.states[state] || "not in this run";
}

// A square stage with the picture in it; `column` is null for the picture alone.
function stage(image, column, side) {
  const ratio = ratioOf(image) ?? 1;
  const [width, height] = ratio >= 1 ? [side, side / ratio] : [side * ratio, side];
  const frame = make("div", { class: "frame" });
  frame.style.width = `${width}px`;
  frame.style.height = `${height}px`;
  const square = make("div", { class: "stage" }, frame);
  square.style.width = square.style.height = `${side}px`;
  later(() => fillFrame(frame, image, column, width, height));
  return square;
}

async function fillFrame(frame, image, column, width, height) {
  const [facts, cell] = await Promise.all([
    imageFacts(image),
    column === null ? null : cellFacts(column, image),
  ]);
  if (!frame.isConnected) return;
  const box = cell?.box ?? [0, 0, 1, 1];
  if (facts?.picture) placePicture(frame, image, facts.picture, box, column);
  else if (cell?.map === undefined) sayEmpty(frame, image, column);
  later(() => {
    if (cell?.map !== undefined) placeMap(frame, image, column, cell, box, width, height);
    frame.dataset.drawn = "";
  });
}

function sayEmpty(frame, image, column) {
  frame.classList.add("empty");
  frame.textContent = column === null ? "no picture" : stateText(column, image) || "no map";
}

function placePicture(frame, image, address, box, column) {
  const name = short(INDEX.names[image], 80);
  const alt = column === null ? `Image ${name}` : "";
  const [top, left, bottom, right] = box;
  const whole = top <= 0 && left <= 0 && bottom >= 1 && right >= 1;
  const seen = make("img", { src: address, alt, decoding: "async", class: "seen" });
  if (whole) {
    frame.prepend(seen);
    return;
  }
  // what the model did not see is gray, as no map says anything about it
  const [above, after, below, before] = [top, 1 - right, 1 - bottom, left].map((share) => Math.max(0, share));
  seen.style.clipPath = `inset(${above * 100}% ${after * 100}% ${below * 100}% ${before * 100}%)`;
  const border = make("div", { class: "border" });
  place(border, box);
  frame.prepend(make("img", { src: address, alt: "", decoding: "async", class: "unseen" }), seen, border);
}

function place(element, [top, left, bottom, right]) {
  element.style.top = `${top * 100}%`;
  element.style.left = `${left * 100}%`;
  element.style.height = `${(bottom - top) * 100}%`;
  element.style.width = `${(right - left) * 100}%`;
}

function placeMap(frame, image, column, cell, box, width, height) {
  const size = (length) => Math.max(1, Math.min(LARGEST_CANVAS, Math.round(length)));
  const canvas = make("canvas", {
    class: "heat",
    role: "img",
    "aria-label": `${INDEX.columns[column].title}, map of ${short(INDEX.names[image], 80)}`,
    height: size(height * (box[2] - box[0])),
    width: size(width * (box[3] - box[1])),
  });
  place(canvas, box);
  const heat = resample(bytes(cell.map), cell.grid, canvas.height, canvas.width);
  drawn.set(canvas, { heat, column, cell });
  frame.append(canvas);
  paint(canvas);
}

function paint(canvas) {
  const { heat, column, cell } = drawn.get(canvas);
  const now = look();
  const scale = now.perImage ? cell.peak : INDEX.columns[column].highest;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  colour(heat, scale > 0 ? cell.top / 255 / scale : 0, now, picture.data);
  context.putImageData(picture, 0, 0);
}

const repaint = new Map();

function recolour() {
  for (const canvas of document.querySelectorAll("canvas.heat")) {
    if (!repaint.has(canvas)) {
      repaint.set(canvas, () => {
        repaint.delete(canvas);
        paint(canvas);
      });
    }
    later(repaint.get(canvas));
  }
  drawScale();
}

// The colour bar is coloured by what colours the maps: above the colours, below as they lie on mid gray.
function drawScale() {
  const now = look();
  const heat = Float32Array.from({ length: 256 }, (_, at) => at / 255);
  const solid = { ...now, opacity: 1, rising: false, threshold: 0 };
  for (const [id, style] of [["bar", solid], ["bar-laid", now]]) {
    const context = byId(id).getContext("2d");
    const picture = context.createImageData(256, 1);
    colour(heat, 1, style, picture.data);
    context.putImageData(picture, 0, 0);
  }
  byId("scale-note").textContent = scaleNote(now);
  byId("opacity-said").textContent = `${Math.round(now.opacity * 100)} %`;
  byId("threshold-said").textContent = now.threshold > 0 ? `hidden below ${now.threshold}` : "none";
}

function scaleNote(now) {
  const one = now.perImage
    ? "1 is each map's own maximum, so colours cannot be compared between images; a uniform map is not stretched"
    : "1 is the method's maximum over all images, so a method's colours can be compared between images";
  const laid = now.rising ? "rising with the value to" : "everywhere at";
  const hidden = now.threshold > 0 ? `; below ${now.threshold} nothing is drawn` : "";
  return (
    `Colormap ${now.colormap}, below as laid on gray. 0 is no evidence for the target, evidence against it ` +
    `is not shown; ${one}. Opacity ${laid} ${Math.round(now.opacity * 100)} %${hidden}.`
  );
}
