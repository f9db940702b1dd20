// The index of everything, and chunks of maps and pictures that are read when they are looked at.
const INDEX = JSON.parse(byId("index").textContent);
const MOST_CHUNKS = 96;
const chunks = new Map();
const awaited = new Map();

// Data files call this: on file:// a page may run scripts beside it and read nothing.
globalThis.whycamChunk = (number, data) => {
  const resolve = awaited.get(number)?.resolve;
  awaited.delete(number);
  keepChunk(number, data);
  resolve?.(data);
};

function keepChunk(number, data) {
  chunks.set(number, data);
  if (chunks.size > MOST_CHUNKS) chunks.delete(chunks.keys().next().value);
}

function chunkNow(number) {
  const data = chunks.get(number);
  if (data !== undefined) {
    chunks.delete(number);
    chunks.set(number, data); // the most recently used is last
  }
  return data;
}

// Gives null where a chunk cannot be read: its images are shown without pictures.
async function chunk(number) {
  if (number < 0) return null;
  const known = chunkNow(number);
  if (known !== undefined) return known;
  const file = INDEX.chunks[number];
  if (file === null) {
    const data = JSON.parse(byId(`chunk-${number}`).textContent);
    keepChunk(number, data);
    return data;
  }
  if (!awaited.has(number)) awaited.set(number, fetchScript(number, file));
  return awaited.get(number).promise;
}

function fetchScript(number, file) {
  const waiting = {};
  waiting.promise = new Promise((resolve) => {
    waiting.resolve = resolve;
    const script = make("script", { src: file });
    script.addEventListener("error", () => {
      awaited.delete(number);
      resolve(null);
    });
    script.addEventListener("load", () => script.remove());
    document.head.append(script);
  });
  return waiting;
}

async function imageFacts(image) {
  return (await chunk(INDEX.pictures[image]))?.[`i${image}`] ?? null;
}

async function cellFacts(column, image) {
  return (await chunk(INDEX.columns[column].chunks[image]))?.[`c${column}.${image}`] ?? null;
}

const wordOf = (code) => (code < 0 ? null : INDEX.words[code]);
