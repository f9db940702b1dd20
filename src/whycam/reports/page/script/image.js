// The page of one image: all its methods, numbers, and where they come from.
const LARGE_SIDE = 384;

function definition(pairs) {
  const said = pairs.filter(([, text]) => text !== null && text !== undefined && text !== "");
  return make("dl", {}, ...said.flatMap(([term, text]) => [make("dt", {}, term), make("dd", { dir: "auto" }, text)]));
}

async function showImage(image) {
  const view = byId("image-view");
  view.dataset.image = image;
  const facts = make("div");
  const side = Math.min(LARGE_SIDE, view.clientWidth - 18); // padding and border
  const panels = make("div", { class: "panels" }, largePanel(image, null, side));
  INDEX.columns.forEach((column, number) => {
    if (column.states[image] > 0) panels.append(largePanel(image, number, side));
  });
  view.replaceChildren(
    imageBar(image),
    make("h2", { id: "image-title", dir: "auto" }, INDEX.names[image]),
    verdict(image, INDEX.runs.map((_, run) => run)),
    panels,
    facts,
  );
  view.focus({ preventScroll: true });
  scrollTo(0, 0);
  const known = await imageFacts(image);
  facts.append(...imageTexts(image, known));
}

function imageBar(image) {
  const place = current.order.indexOf(image);
  const button = (text, keys, action, possible) => {
    const made = make("button", { type: "button", "aria-keyshortcuts": keys }, text);
    made.disabled = !possible;
    made.addEventListener("click", action);
    return made;
  };
  const told = place < 0 ? "not among the images that the filters leave" : `${place + 1} of ${current.order.length}`;
  return make(
    "nav",
    { class: "bar", "aria-label": "Images" },
    button("Back to the list", "Escape", closeImage, true),
    button("Previous", "ArrowLeft", () => step(-1), place > 0),
    button("Next", "ArrowRight", () => step(1), place >= 0 && place < current.order.length - 1),
    make("span", { class: "muted" }, told),
  );
}

function largePanel(image, column, side) {
  const caption = make("figcaption", { dir: "auto" });
  caption.style.width = `${side}px`;
  const title = column === null ? "image" : INDEX.columns[column].title;
  caption.append(make("span", { class: "title" }, title));
  if (column !== null) cellFacts(column, image).then((cell) => caption.append(cellTexts(image, column, cell)));
  return make("figure", { class: "panel" }, stage(image, column, side), caption);
}

const sizeText = (size) => (size ? size.join(" × ") : null);

function cellTexts(image, column, cell) {
  const seen = cell?.seen ? cell.seen.map((side) => Number(side.toFixed(1))) : null;
  return definition([
    ["shows", stateText(column, image) || null],
    ["error", cell?.error],
    ...INDEX.measures
      .filter((measure) => measure.column === column)
      .map((measure) => [measure.name, figure(measure.values[image])]),
    ["target", cell?.target],
    ["class", cell?.class === null || cell?.class === undefined ? null : String(cell.class)],
    ["layer", cell?.layer],
    ["map", cell?.native ? `${sizeText(cell.native)} cells, largest ${figure(cell.highest)}` : null],
    ["drawn at", cell?.map && String(cell.grid) !== String(cell.native) ? `${sizeText(cell.grid)} cells` : null],
    ["seen", seen ? `rows ${seen[0]} to ${seen[2]}, columns ${seen[1]} to ${seen[3]}` : null],
  ]);
}

function imageTexts(image, known) {
  const found = [
    make("h3", {}, "The image"),
    definition([
      ["name", INDEX.names[image]],
      ["path", known?.path],
      ["size", known?.size ? `${sizeText(known.size)} (height × width)` : null],
      ["SHA-256", known?.hash],
      ["label", wordOf(INDEX.labels[image])],
    ]),
  ];
  INDEX.runs.forEach((run, number) => {
    const likely = PROBABILITIES.get(number)?.[image] ?? null;
    found.push(
      make("h3", { dir: "auto" }, INDEX.runs.length > 1 ? `The model of ${run.name}` : "The model"),
      definition([
        ["model", run.model],
        ["weights", run.weights],
        ["predicted", wordOf(run.predicted[image])],
        ["probability", likely === null ? null : figure(likely)],
      ]),
    );
  });
  const link = make("a", { href: "#made" }, "How this was made");
  link.addEventListener("click", (event) => {
    event.preventDefault(); // the address stays the image's
    byId("made").querySelector("summary").focus();
  });
  return [...found, make("p", {}, link)];
}

function imageInAddress() {
  const found = /^#image-(\d{1,9})$/.exec(location.hash);
  const image = found ? Number(found[1]) : -1;
  return image >= 0 && image < INDEX.names.length ? image : null;
}

let leftAt = 0;

function showView() {
  const image = imageInAddress();
  const listView = byId("list-view");
  if (image !== null) {
    if (!listView.hidden) leftAt = scrollY;
    listView.hidden = true;
    byId("main").classList.add("single");
    byId("image-view").hidden = false;
    showImage(image);
    return;
  }
  if (!listView.hidden) return;
  const last = Number(byId("image-view").dataset.image ?? 0);
  byId("image-view").hidden = true;
  byId("main").classList.remove("single");
  listView.hidden = false;
  layOut();
  scrollTo(0, leftAt);
  goTo(Math.max(0, current.order.indexOf(last)));
}

function closeImage() {
  location.hash = "list";
}

function step(by) {
  const place = current.order.indexOf(imageInAddress());
  const next = current.order[place + by];
  // replaced, not added: one step back leads to the list
  if (place >= 0 && next !== undefined) location.replace(`#image-${next}`);
}
