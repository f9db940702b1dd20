// The controls: what they change is seen at once.
const COLOUR_CONTROLS = new Set(["colormap", "opacity", "opacity-kind", "threshold", "scale"]);
let typed = 0;

function changed(event) {
  if (COLOUR_CONTROLS.has(event.target.id)) {
    recolour();
    return;
  }
  clearTimeout(typed);
  typed = setTimeout(refreshList, event.target.type === "search" ? 80 : 0);
}

function listenToControls() {
  const form = byId("form");
  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => {
    refreshList();
    recolour();
  }));
  for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
  byId("theme").addEventListener("click", toggleTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", sayTheme);
}

async function copy(button) {
  const source = byId(button.dataset.copies);
  const said = button.parentElement.querySelector("[role=status]");
  try {
    await navigator.clipboard.writeText(source.textContent);
    said.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(source);
    said.textContent = "selected; copy it with the keyboard";
  }
}

function isDark() {
  const asked = document.documentElement.dataset.theme;
  return asked ? asked === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function sayTheme() {
  byId("theme").setAttribute("aria-pressed", String(isDark()));
}

function toggleTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  sayTheme();
}
