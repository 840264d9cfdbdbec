// Sorting, filtering, copying. Text enters the page as text nodes only; every line has a twin in parts.html.
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const [low, high, barStart, barStop] = data.scale;
  const table = document.getElementById("board");
  const body = table.tBodies[0];
  const lines = data.lines.map(read);
  const main = Math.max(0, data.tasks.indexOf("all"));
  const order = { key: "task" + main, falling: true };
  let chosen = [];
  let shown = 0;

  function read(flat) {
    const text = (i) => data.texts[flat[i]];
    const pair = (i) => ({ text: text(i), value: flat[i + 1] });
    const line = {
      arm: text(0), kind: text(1), precision: text(2), split: text(3), size: text(4), note: text(5), command: text(6),
      seeds: flat[7], tokens: pair(8), parameters: pair(10), bytes: pair(12), time: pair(14), scores: [],
    };
    for (let i = 16; i < flat.length; i += 4) {
      line.scores.push(flat[i] < 0 ? null : { mean: flat[i], low: flat[i + 1], high: flat[i + 2], tied: flat[i + 3] === 1 });
    }
    return line;
  }

  function make(name, attributes, ...children) {
    const element = document.createElement(name);
    return fill(element, attributes, children);
  }

  function draw(name, attributes, ...children) {
    return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
  }

  function fill(element, attributes, children) {
    for (const key of Object.keys(attributes)) element.setAttribute(key, attributes[key]);
    element.append(...children);
    return element;
  }

  const percent = (value) => (Math.floor((value + 500) / 1000) / 10).toFixed(1);

  function place(value) {
    const inside = Math.min(high, Math.max(low, value));
    return barStart + Math.floor((2 * (barStop - barStart) * (inside - low) + (high - low)) / (2 * (high - low)));
  }

  function bar(score, chance) {
    return draw("svg", { class: "bar", viewBox: "0 0 1200 140", "aria-hidden": "true" },
      draw("line", { class: "rail", x1: barStart, x2: barStop, y1: 70, y2: 70 }),
      draw("line", { class: "chance", x1: place(chance), x2: place(chance), y1: 0, y2: 140 }),
      ...(score.low < 0 ? [] : [draw("line", { class: "span", x1: place(score.low), x2: place(score.high), y1: 70, y2: 70 })]),
      draw("circle", { cx: place(score.mean), cy: 70, r: 40 }));
  }

  function scoreCell(score, index, line) {
    const cell = make("td", { class: "score " + (data.grains && index >= data.grains ? "family" : "grain") });
    if (!score) return fill(cell, {}, ["–"]);
    cell.append(make("span", { class: "num" }, percent(score.mean)), " ");
    if (score.low >= 0) cell.append(make("span", { class: "ci" }, percent(score.low) + " to " + percent(score.high)));
    const scale = make("span", { class: "scale" }, bar(score, data.chance[line.split][index]));
    if (score.tied) scale.append(make("span", { class: "tie" }, "tied"));
    cell.append(scale);
    return cell;
  }

  function row(line) {
    const head = make("th", { scope: "row" }, line.arm);
    if (line.kind !== "contender") head.append(" ", make("span", { class: "tag" }, line.kind));
    const number = (text) => make("td", { class: "n" }, String(text));
    const label = "Reproduce " + line.arm + ", " + line.precision + ", " + line.split;
    const how = make("button", { type: "button", class: "how js", "aria-expanded": "false", "aria-label": label }, "reproduce");
    return make("tr", { class: line.kind.replace(" ", "-") }, head,
      make("td", { class: "of-precision" }, line.precision), make("td", { class: "of-split" }, line.split),
      ...line.scores.map((score, i) => scoreCell(score, i, line)),
      number(line.seeds || "–"), number(line.tokens.text), number(line.parameters.text), number(line.bytes.text), number(line.time.text),
      make("td", { class: "do" }, how));
  }

  function keyOf(line) {
    const key = order.key;
    if (key.startsWith("task")) return line.scores[Number(key.slice(4))]?.mean ?? -1;
    if (key === "precision") return data.precisions.indexOf(line.precision);
    if (key === "split") return data.splits.concat(data.languages).indexOf(line.split);
    return typeof line[key] === "object" ? line[key].value : line[key];
  }

  function sorted(found) {
    const sign = order.falling ? -1 : 1;
    const keyed = found.map((line, i) => ({ line, i, key: keyOf(line) }));
    keyed.sort((a, b) => (a.key < b.key ? -sign : a.key > b.key ? sign : a.i - b.i));
    return keyed.map((entry) => entry.line);
  }

  const field = (name) => document.getElementById("f-" + name);

  function update() {
    const wanted = ["precision", "split", "size", "kind"].map((name) => [name, field(name).value]).filter((w) => w[1]);
    const text = field("text").value.trim().toLowerCase();
    // single languages only when one is asked for
    const group = (line) => field("split").value || data.splits.includes(line.split);
    const found = lines.filter((line) => group(line) && wanted.every((w) => line[w[0]] === w[1]) && line.arm.toLowerCase().includes(text));
    chosen = sorted(found);
    shown = 0;
    for (const name of ["precision", "split"]) table.classList.toggle("one-" + name, field(name).value !== "");
    body.replaceChildren();
    more();
  }

  function more() {
    const next = chosen.slice(shown, shown + data.shown);
    body.append(...next.map(row));
    shown += next.length;
    report();
  }

  function report() {
    const language = field("split").value;
    const which = data.splits.includes(language) ? language + " languages" : "text in " + language;
    const groups = [language && which, field("precision").value].filter(Boolean);
    const where = groups.length ? ": " + groups.join(", ") : "";
    document.getElementById("count").textContent = chosen.length
      ? shown + " of " + chosen.length + " lines" + where + "." : "No line matches these filters.";
    document.getElementById("more").hidden = shown >= chosen.length;
  }

  function sortBy(header) {
    const key = header.dataset.sort;
    const first = key.startsWith("task") || key === "seeds";
    order.falling = order.key === key ? !order.falling : first;
    order.key = key;
    table.querySelectorAll("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", order.falling ? "descending" : "ascending");
    update();
  }

  function toggle(button) {
    const line = button.closest("tr");
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) return line.nextElementSibling.remove();
    const item = chosen[[...body.querySelectorAll("tr:not(.detail)")].indexOf(line)];
    const cell = make("td", { colspan: line.cells.length }, make("p", {}, item.note + "."));
    if (item.command) {
      const copy = make("button", { type: "button", class: "copy" }, "Copy");
      cell.append(make("p", { class: "command" }, make("code", { tabindex: "0" }, item.command), copy));
    }
    line.after(make("tr", { class: "detail" }, cell));
  }

  async function copy(button) {
    const code = button.previousElementSibling;
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

  body.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.classList.contains("how")) toggle(button);
    if (button?.classList.contains("copy")) copy(button);
  });
  for (const header of table.tHead.querySelectorAll("th[data-sort]")) {
    const button = header.querySelector("button");
    button.disabled = false;
    button.addEventListener("click", () => sortBy(header));
  }
  for (const name of ["precision", "split", "size", "kind"]) field(name).addEventListener("change", update);
  field("text").addEventListener("input", update);
  field("scores")?.addEventListener("change", (event) => table.classList.toggle("families", event.target.value === "families"));
  document.getElementById("more").addEventListener("click", more);
  document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));

  // the static lines are this selection already: nothing is drawn before the reader asks for another
  chosen = sorted(lines.filter((line) => line.precision === field("precision").value && line.split === field("split").value));
  shown = body.rows.length;
  document.documentElement.classList.add("live");
  report();
  performance.mark("interactive");
})();
