// Sorts and filters the leaderboard, folds tables that are too wide, copies commands. It makes no text of its own: rows
// come as the page has them, and only those that are shown are put into the table.
(function () {
  "use strict";
  const table = document.getElementById("board");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const more = document.getElementById("more");
  const step = Number(more.dataset.step);
  const field = (name) => document.getElementById("f-" + name);
  const FILTERS = ["precision", "place", "size", "kind"];
  let order = null;
  let chosen = [];

  function lines() {
    if (!order) {
      const rows = document.getElementById("rows").textContent.split("\n");
      const read = (fields, i) => {
        const [arm, precision, place, size, kind, single, keys] = fields;
        return { row: rows[i], arm: arm.toLowerCase(), precision, place, size, kind, single, keys };
      };
      order = JSON.parse(document.getElementById("keys").textContent).map(read);
    }
    return order;
  }

  function sortBy(head) {
    const column = heads.indexOf(head);
    const before = head.getAttribute("aria-sort");
    const falling = before ? before === "ascending" : head.classList.contains("s");
    const sign = falling ? -1 : 1;
    heads.forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    lines().sort((one, other) => {
      const [a, b] = [one.keys[column], other.keys[column]];
      // what was not measured stands last whichever way
      return a === b ? 0 : a === null ? 1 : b === null ? -1 : a < b ? -sign : sign;
    });
    update();
  }

  function update() {
    const wanted = FILTERS.map((name) => [name, field(name).value]).filter((one) => one[1]);
    const text = field("text").value.trim().toLowerCase();
    // single languages only when one is asked for
    const together = !field("place").value;
    chosen = lines().filter((line) =>
      !(together && line.single) && wanted.every(([name, value]) => line[name] === value) && line.arm.includes(text));
    for (const name of ["precision", "place"]) table.classList.toggle("one-" + name, field(name).value !== "");
    table.dataset.columns = field("columns").value;
    show(step);
  }

  function show(upTo) {
    body.innerHTML = chosen.slice(0, upTo).map((line) => line.row).join("");
    report(Math.min(upTo, chosen.length));
    fold(table);
  }

  function report(shown) {
    const place = field("place").value;
    const single = [...field("place").options].find((one) => one.value === place)?.parentElement.tagName === "OPTGROUP";
    const filters = [place && (single ? "text in " + place : place + " languages"), field("precision").value].filter(Boolean);
    document.getElementById("count").textContent = chosen.length
      ? shown + " of " + chosen.length + " lines" + (filters.length ? ": " + filters.join(", ") : "") + "."
      : "No line matches these filters.";
    more.hidden = shown >= chosen.length;
    more.dataset.shown = shown;
  }

  // A table wider than its window becomes a list of lines, each cell with the head of its column.
  function fold(one) {
    one.classList.remove("folded");
    const box = one.parentElement;
    if (!box.clientWidth || one.scrollWidth <= box.clientWidth + 1) return;
    const titles = [...one.tHead.rows[0].cells].map((cell) => cell.textContent);
    const role = (element, name) => element.setAttribute("role", name);
    role(one, "table");
    [...one.rows].forEach((row) => {
      role(row, "row");
      [...row.cells].forEach((cell, i) => {
        cell.dataset.label = titles[i];
        role(cell, cell.tagName === "TD" ? "cell" : cell.scope === "row" ? "rowheader" : "columnheader");
      });
    });
    one.classList.add("folded");
  }

  const foldAll = () => document.querySelectorAll(".scroll > table").forEach(fold);

  async function copy(button) {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      // a page opened as a file may not reach the clipboard: select the text for the reader instead
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
      return;
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const inside = target && target.closest("details");
    if (!inside) return;
    inside.open = true;
    target.scrollIntoView();
    target.focus();
  }

  for (const head of heads.filter((one) => "sort" in one.dataset)) {
    const button = head.querySelector("button");
    button.disabled = false;
    button.addEventListener("click", () => sortBy(head));
  }
  for (const name of [...FILTERS, "columns"]) field(name).addEventListener("change", update);
  field("text").addEventListener("input", update);
  more.addEventListener("click", () => {
    const shown = Number(more.dataset.shown);
    if (!order) update();
    show(shown + step);
  });
  document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("click", (event) => { if (event.target.matches(".copy")) copy(event.target); });
  document.addEventListener("toggle", (event) => event.target.querySelectorAll(".scroll > table").forEach(fold), true);
  addEventListener("hashchange", reveal);
  let waiting = 0;
  addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(foldAll); });
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open], .unprinted)")];
    unfolded.forEach((one) => { one.open = true; });
    document.documentElement.classList.add("printing");
    foldAll();
  });
  addEventListener("afterprint", () => {
    unfolded.forEach((one) => { one.open = false; });
    unfolded = [];
    document.documentElement.classList.remove("printing");
    foldAll();
  });

  document.documentElement.classList.add("live");
  // a browser may have kept what was chosen before the page was loaded again
  if ([...document.querySelectorAll(".filters option")].some((one) => one.defaultSelected && !one.selected)) update();
  foldAll();
  reveal();
  performance.mark("interactive");
})();
