// Which images, in which order.
const haystacks = new Map();
const collator = new Intl.Collator(undefined, { numeric: true });

function haystack(image) {
  if (!haystacks.has(image)) {
    const said = INDEX.runs.map((run) => wordOf(run.predicted[image]));
    const texts = [INDEX.names[image], wordOf(INDEX.labels[image]), ...said];
    haystacks.set(image, texts.filter((text) => text !== null).join("\n").toLowerCase());
  }
  return haystacks.get(image);
}

function isRight(image, query) {
  return query.runs.length > 0 && query.runs.every((run) => INDEX.runs[run].right[image] === 1);
}

const EMPTY_STATES = [STATES["blank: all zero"], STATES["blank: nothing positive"]];

const hasState = (image, query, states) =>
  query.columns.some((column) => states.includes(INDEX.columns[column].states[image]));

const RESULTS = {
  "": () => true,
  right: isRight,
  wrong: (image, query) => query.runs.some((run) => INDEX.runs[run].right[image] === 0),
  empty: (image, query) => hasState(image, query, EMPTY_STATES),
  failed: (image, query) => hasState(image, query, [STATES.failed]),
};

function inRange(image, query) {
  if (query.lowest === null && query.highest === null) return true;
  const value = INDEX.measures[query.measure].values[image];
  if (value === null) return false;
  return value >= (query.lowest ?? -Infinity) && value <= (query.highest ?? Infinity);
}

function matches(image, query) {
  if (query.label !== null && INDEX.labels[image] !== query.label) return false;
  if (query.predicted !== null && !query.runs.some((run) => INDEX.runs[run].predicted[image] === query.predicted)) {
    return false;
  }
  if (!RESULTS[query.result](image, query) || !inRange(image, query)) return false;
  if (!query.columns.some((column) => INDEX.columns[column].states[image] > 0)) return false;
  return query.words.length === 0 || query.words.every((word) => haystack(image).includes(word));
}

// What images are sorted by; null comes last in both directions.
function sortKeys(query) {
  const run = INDEX.runs[query.runs[0] ?? 0];
  const texts = (codes) => (image) => wordOf(codes[image]);
  if (query.sort === "order") return (image) => image;
  if (query.sort === "name") return (image) => INDEX.names[image];
  if (query.sort === "label") return texts(INDEX.labels);
  if (query.sort === "predicted") return texts(run.predicted);
  const { values } = INDEX.measures[Number(query.sort)];
  return (image) => values[image];
}

function answer(query) {
  const found = [];
  for (let image = 0; image < INDEX.names.length; image += 1) if (matches(image, query)) found.push(image);
  const keyOf = sortKeys(query);
  const keyed = found.map((image) => [keyOf(image), image]);
  keyed.sort(([one, first], [other, second]) => {
    if (one === null || other === null) return (one === null) - (other === null) || first - second;
    const order = typeof one === "string" ? collator.compare(one, other) : one - other;
    return query.direction * order || first - second;
  });
  return keyed.map(([, image]) => image);
}
