// Begin.
const PHONE = 820;

function focused(event) {
  const found = [...items].find(([, item]) => item.contains(event.target));
  if (found) active = found[0];
}

function start() {
  if (innerWidth <= PHONE) byId("controls").open = false;
  chooseFirstColumns();
  listenToControls();
  sayTheme();
  drawScale();
  refreshList();
  list.addEventListener("focusin", focused);
  document.addEventListener("keydown", pressed);
  addEventListener("scroll", () => requestAnimationFrame(showNear), { passive: true });
  addEventListener("hashchange", showView);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return showNear(); // a phone's address bar comes and goes
    width = innerWidth;
    return layOut();
  });
  showView();
}

start();
