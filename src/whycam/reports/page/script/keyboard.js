// Keys: / searches, arrows move, Enter opens (a link does that itself), Escape goes back.
const typing = (element) => element.matches("input, select, textarea, [contenteditable]");

function listMoves() {
  const { cards, cardHeight } = current.layout;
  const screen = Math.max(1, Math.floor(innerHeight / cardHeight)) * cards;
  return {
    ArrowRight: 1,
    ArrowLeft: -1,
    ArrowDown: cards,
    ArrowUp: -cards,
    PageDown: screen,
    PageUp: -screen,
    Home: -Infinity,
    End: Infinity,
  };
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const single = imageInAddress() !== null;
  if (event.key === "Escape") escape(single);
  else if (typing(event.target)) return;
  else if (event.key === "/" && !single) byId("search").focus();
  else if (single && event.key === "ArrowLeft") step(-1);
  else if (single && event.key === "ArrowRight") step(1);
  else if (!single && list.contains(event.target) && event.key in listMoves()) goTo(active + listMoves()[event.key]);
  // from nowhere into the list; elsewhere the arrows scroll and choose as everywhere
  else if (!single && event.target === document.body && event.key.startsWith("Arrow")) goTo(active);
  else return;
  event.preventDefault();
}

function escape(single) {
  if (single) closeImage();
  else if (document.activeElement === byId("search")) goTo(active);
}
