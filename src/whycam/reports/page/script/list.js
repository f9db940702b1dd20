// The list of images. Only what is near the window is in the document: ten thousand cost what forty do.
const GAP = 8;
const CARD_EXTRA = 2 * (8 + 1 + 3); // padding, border, and the item's own padding, on both sides
const PANEL_SIDE = 172;
const MOST_STRETCHED = 1.3;
const CAPTION = 38; // two lines
const HEAD = 48;
const list = byId("list");
const items = new Map();
let current = { order: [], query: null, layout: null };
let active = 0;

function layoutFor(width, panels) {
  const phone = width < 460;
  const wanted = phone ? (width - CARD_EXTRA - GAP) / 2 : PANEL_SIDE;
  const fitting = Math.max(1, Math.floor((width - CARD_EXTRA + GAP) / (wanted + GAP) + 1e-6));
  const across = Math.min(panels, fitting);
  const least = across * (wanted + GAP) - GAP + CARD_EXTRA;
  const cards = phone ? 1 : Math.max(1, Math.floor(width / least));
  const cardWidth = cards === 1 && !phone ? Math.min(width, MOST_STRETCHED * least) : width / cards;
  const side = Math.floor((cardWidth - CARD_EXTRA + GAP) / across - GAP);
  const lines = Math.ceil(panels / across);
  return { cards, cardWidth, side, cardHeight: HEAD + CARD_EXTRA + lines * (side + CAPTION) + (lines - 1) * GAP };
}

function refreshList() {
  const query = readQuery();
  const order = answer(query);
  const same = order.length === current.order.length && order.every((image, at) => image === current.order[at]);
  current = { order, query, layout: null };
  if (!same) {
    active = 0;
    if (list.getBoundingClientRect().top < 0) byId("list-view").scrollIntoView();
  }
  sayCount();
  layOut();
}

function sayCount() {
  const [shown, all] = [current.order.length, INDEX.names.length];
  const text = `${shown.toLocaleString("en")} of ${all.toLocaleString("en")} ${all === 1 ? "image" : "images"}`;
  byId("count").textContent = shown === 0 ? `${text}: nothing matches` : text;
}

function layOut() {
  if (byId("list-view").hidden) return;
  const panels = current.query.columns.length + (byId("original").checked ? 1 : 0);
  current.layout = layoutFor(list.clientWidth, Math.max(1, panels));
  const lines = Math.ceil(current.order.length / current.layout.cards);
  list.style.height = `${lines * current.layout.cardHeight}px`;
  for (const item of items.values()) item.remove();
  items.clear();
  showNear();
}

function showNear() {
  if (byId("list-view").hidden || current.layout === null) return;
  const { cards, cardHeight } = current.layout;
  const top = -list.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(top / cardHeight) - 1) * cards;
  const last = (Math.ceil((top + innerHeight) / cardHeight) + 1) * cards;
  const wanted = new Set();
  for (let place = first; place < Math.min(last, current.order.length); place += 1) wanted.add(place);
  // what has the focus stays, or the keyboard would be nowhere
  const focused = [...items].find(([, item]) => item.contains(document.activeElement));
  if (focused) wanted.add(focused[0]);
  for (const [place, item] of items) {
    if (!wanted.has(place)) {
      item.remove();
      items.delete(place);
    }
  }
  for (const place of wanted) if (!items.has(place)) addItem(place);
}

function addItem(place) {
  const { cards, cardWidth, cardHeight } = current.layout;
  const item = make("li", {
    class: "item",
    "aria-setsize": current.order.length,
    "aria-posinset": place + 1,
  });
  item.style.top = `${Math.floor(place / cards) * cardHeight}px`;
  item.style.left = `${(place % cards) * cardWidth}px`;
  item.style.width = `${cardWidth}px`;
  item.style.height = `${cardHeight}px`;
  item.append(card(current.order[place], place));
  items.set(place, item);
  const next = [...items.keys()].filter((other) => other > place).sort((a, b) => a - b)[0];
  list.insertBefore(item, next === undefined ? null : items.get(next));
}

function card(image, place) {
  const panels = make("div", { class: "panels" });
  if (byId("original").checked) panels.append(smallPanel(image, null));
  for (const column of current.query.columns) panels.append(smallPanel(image, column));
  return make(
    "a",
    { class: "card", href: `#image-${image}`, tabindex: place === active ? "0" : "-1" },
    make("span", { class: "name", dir: "auto" }, short(INDEX.names[image])),
    verdict(image, current.query.runs),
    panels,
  );
}

function smallPanel(image, column) {
  const title = column === null ? "image" : INDEX.columns[column].title;
  const note = column === null ? "" : stateText(column, image);
  const score = column === null ? null : scoreOf(column, image);
  const said = note || (score === null ? "" : `score ${figure(score)}`);
  return make(
    "figure",
    { class: "panel" },
    stage(image, column, current.layout.side),
    captionOf([short(title, 60), said], current.layout.side),
  );
}

function captionOf(texts, side) {
  const lines = texts.map((text) => make("span", { dir: "auto" }, text));
  const caption = make("figcaption", { title: texts.filter(Boolean).join(" · ") }, ...lines);
  caption.style.width = `${side}px`;
  return caption;
}

const SCORES = new Map(
  INDEX.measures.filter((measure) => measure.name === "score").map((measure) => [measure.column, measure.values]),
);
const PROBABILITIES = new Map(
  INDEX.measures.filter((measure) => measure.column < 0).map((measure) => [measure.run, measure.values]),
);

const scoreOf = (column, image) => SCORES.get(column)?.[image] ?? null;

// "predicted cat (97.1 %) · label dog", with the run's name where there are several.
function verdict(image, runs) {
  const line = make("span", { class: "said", dir: "auto" });
  for (const run of runs) {
    const predicted = wordOf(INDEX.runs[run].predicted[image]);
    if (predicted === null) continue;
    const right = INDEX.runs[run].right[image];
    const likely = PROBABILITIES.get(run)?.[image] ?? null;
    const sure = likely === null ? "" : ` (${(100 * likely).toFixed(1)} %)`;
    const name = INDEX.runs.length > 1 ? `${short(INDEX.runs[run].name, 30)}: ` : "";
    const mark = ["✗ ", "✓ "][right] ?? "";
    line.append(
      line.childNodes.length ? " · " : "",
      make("span", { class: ["wrong", "right"][right] ?? "" }, `${mark}${name}predicted ${short(predicted, 60)}${sure}`),
    );
  }
  const label = wordOf(INDEX.labels[image]);
  if (label !== null) line.append(line.childNodes.length ? " · " : "", `label ${short(label, 60)}`);
  line.title = line.textContent;
  return line;
}

// Move the focus to a place in the list and bring it into the window.
function goTo(place) {
  if (current.order.length === 0) return;
  active = Math.min(current.order.length - 1, Math.max(0, place));
  const { cards, cardHeight } = current.layout;
  const top = list.getBoundingClientRect().top + Math.floor(active / cards) * cardHeight;
  if (top < 0) scrollBy(0, top - GAP);
  else if (top + cardHeight > innerHeight) scrollBy(0, Math.min(top - GAP, top + cardHeight - innerHeight + GAP));
  showNear();
  if (!items.has(active)) addItem(active);
  for (const [other, item] of items) item.firstChild.tabIndex = other === active ? 0 : -1;
  items.get(active).firstChild.focus({ preventScroll: true });
}
