// The report's page: colour scheme, contents list, tables, enlarged figures. Nothing is loaded from anywhere.
"use strict";

function startScheme() {
  const root = document.documentElement, button = document.querySelector(".scheme");
  const show = () => { button.textContent = root.dataset.scheme === "dark" ? "light" : "dark"; };
  button.addEventListener("click", () => {
    root.dataset.scheme = root.dataset.scheme === "dark" ? "light" : "dark";
    try { localStorage.setItem("caloforge-scheme", root.dataset.scheme); } catch (e) { /* pages from files may not */ }
    show();
    document.dispatchEvent(new Event("schemechange"));
  });
  button.hidden = false;
  show();
}

function startContents() {
  const links = new Map([...document.querySelectorAll("nav a")].map(a => [a.hash.slice(1), a]));
  const seen = new Set();
  const watcher = new IntersectionObserver(entries => {
    for (const e of entries) e.isIntersecting ? seen.add(e.target.id) : seen.delete(e.target.id);
    const first = [...links.keys()].find(id => seen.has(id));
    for (const [id, a] of links) id === first ? a.setAttribute("aria-current", "true") : a.removeAttribute("aria-current");
  }, { rootMargin: "-10% 0px -70% 0px" });
  for (const id of links.keys()) watcher.observe(document.getElementById(id));
}

// -- tables: every heading sorts, words and choices filter -------------------------------------------------------

function startTable(card) {
  const body = card.querySelector("tbody"), rows = [...body.rows], heads = [...card.querySelectorAll("thead th")];
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort === undefined ? null : Number(cell.dataset.sort);
  };
  const sortBy = column => {
    const head = heads[column], numeric = rows.some(row => key(row, column) !== null);
    // Numbers start with the largest, words with the first.
    const now = head.getAttribute("aria-sort");
    const down = now ? now === "ascending" : numeric;
    const sign = down ? -1 : 1;
    const text = row => row.cells[column].textContent;
    const sorted = rows.map((row, i) => [row, key(row, column), i]).sort(([a, x, i], [b, y, j]) => {
      if (!numeric) return sign * text(a).localeCompare(text(b), "en", { numeric: true }) || i - j;
      if (x === null || y === null) return (x === null) - (y === null) || i - j; // without a number: last
      return sign * (x - y) || i - j;
    });
    for (const h of heads) h.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...sorted.map(s => s[0]));
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortBy(column));
  });

  const filters = card.querySelector(".filters");
  if (!filters) return;
  const words = filters.querySelector(".words"), choice = filters.querySelector(".choice");
  const level = filters.querySelector(".level"), count = card.querySelector(".count");
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(wanted.every(word => text.includes(word))
        && (!choice || !choice.value || row.cells[Number(choice.dataset.column)].textContent === choice.value)
        && (!level || Number(row.dataset.level) >= Number(level.value)));
      shown += !row.hidden;
    }
    count.textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
  };
  for (const control of [words, choice, level]) control && control.addEventListener("input", filter);
  filters.hidden = count.hidden = false;
  filter();
}

// -- figures: a click enlarges, arrow keys go on ------------------------------------------------------------------

function startFigures() {
  const dialog = document.querySelector("dialog"), all = [...document.querySelectorAll("figure")];
  let at = 0;
  const show = number => {
    at = (number + all.length) % all.length;
    const figure = all[at], small = figure.querySelector("img"), large = dialog.querySelector("img");
    const title = figure.querySelector("b").textContent, links = figure.querySelectorAll(".title a");
    large.src = small.src;
    large.alt = small.alt;
    large.className = small.className;
    dialog.setAttribute("aria-label", title);
    dialog.querySelector("h3").textContent = title;
    dialog.querySelector("p").textContent = figure.querySelector("figcaption").lastChild.textContent;
    dialog.querySelector(".png").setAttribute("href", links[0].getAttribute("href"));
    dialog.querySelector(".pdf").setAttribute("href", links[1].getAttribute("href"));
  };
  all.forEach((figure, number) => figure.querySelector(".zoom").addEventListener("click", event => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab was wanted
    event.preventDefault();
    show(number);
    dialog.showModal();
  }));
  dialog.addEventListener("click", event => {
    const what = event.target.dataset.do;
    if (event.target === dialog || what === "close") dialog.close();
    else if (what) show(at + (what === "next" ? 1 : -1));
  });
  dialog.addEventListener("keydown", event => {
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") show(at + (event.key === "ArrowRight" ? 1 : -1));
  });
}

startScheme();
startContents();
document.querySelectorAll(".table").forEach(startTable);
startFigures();
document.querySelectorAll(".viewer").forEach(startViewer);
