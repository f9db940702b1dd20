// What the controls say.
const MOST_COLUMNS_AT_FIRST = 4;

const valueOf = (id) => byId(id)?.value ?? "";

function look() {
  return {
    colormap: valueOf("colormap"),
    opacity: Number(valueOf("opacity")) / 100,
    rising: valueOf("opacity-kind") === "rising",
    threshold: Number(valueOf("threshold")) / 100,
    perImage: valueOf("scale") === "image",
  };
}

// The texts of a group of checkboxes that are checked; null where there is no such group.
function chosen(name) {
  if (!byId(name)) return null;
  const boxes = document.querySelectorAll(`input[name="${name}"]:checked`);
  return new Set([...boxes].map((box) => Number(box.value)));
}

const distinct = (values) => [...new Set(values)];
const METHODS = distinct(INDEX.columns.map((column) => column.method));
const TARGETS = distinct(INDEX.columns.map((column) => column.target).filter((target) => target !== null));

function shownColumns() {
  const [methods, runs, targets] = ["methods", "runs", "targets"].map(chosen);
  return INDEX.columns.flatMap((column, number) => {
    const shown =
      methods.has(METHODS.indexOf(column.method)) &&
      (runs === null || runs.has(column.run)) &&
      (targets === null || targets.has(TARGETS.indexOf(column.target)));
    return shown ? [number] : [];
  });
}

const shownRuns = (columns) => distinct(columns.map((column) => INDEX.columns[column].run));

// Eight methods beside each other are no overview: the first few are shown until more are asked for.
function chooseFirstColumns() {
  const boxes = [...document.querySelectorAll('input[name="methods"]')];
  while (boxes.length > 1 && shownColumns().length > MOST_COLUMNS_AT_FIRST) {
    const last = boxes.pop();
    last.checked = last.defaultChecked = false;
  }
}

function readQuery() {
  const columns = shownColumns();
  const number = (id) => (valueOf(id) === "" ? null : Number(valueOf(id)));
  return {
    words: valueOf("search").toLowerCase().split(/\s+/).filter(Boolean),
    label: number("label"),
    predicted: number("predicted"),
    result: valueOf("result"),
    measure: number("measure"),
    lowest: number("lowest"),
    highest: number("highest"),
    sort: valueOf("sort"),
    direction: Number(valueOf("direction")),
    columns,
    runs: shownRuns(columns),
  };
}
