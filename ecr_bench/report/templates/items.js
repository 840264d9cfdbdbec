// Shows single answers. The data of a task and language is a script beside the page, which works without a server too;
// everything it holds is put in as text, never as HTML.
(function () {
  "use strict";
  const parts = JSON.parse(document.getElementById("parts").textContent);
  const field = (name) => document.getElementById("f-" + name);
  const loaded = {};
  let codes = {};
  window.ecrItems = (file, items) => { loaded[file] = items; };
  window.ecrCodes = (found) => { codes = found; };

  function load(file, then) {
    const script = document.createElement("script");
    script.src = file;
    script.onload = then;
    script.onerror = () => { document.getElementById("count").textContent = file + " is not there."; };
    document.body.append(script);
  }

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function shares(scores) {
    const top = Math.max(...scores);
    const raised = scores.map((score) => Math.exp(score - top));
    const total = raised.reduce((a, b) => a + b);
    return raised.map((value) => value / total);
  }

  function answer(item, arm) {
    const box = element("div");
    const found = item.answers[arm];
    if (!found) { box.append(element("p", "note", arm + " has no answer to this item.")); return box; }
    const right = found.said === item.gold;
    box.append(element("p", "note " + (right ? "verdict-right" : "verdict-wrong"), arm + ": " + (right ? "right" : "wrong")));
    const list = element("ol");
    const share = shares(found.scores);
    item.options.forEach((option, i) => {
      const line = element("li", "option" + (i === item.gold ? " gold" : "") + (i === found.said ? " said" : ""));
      const bar = element("div", "bar");
      const filled = element("i");
      filled.style.width = (100 * share[i]).toFixed(1) + "%";
      bar.append(filled);
      line.append(element("span", "", option), bar, element("span", "n", found.scores[i].toFixed(2).replace("-", "\u2212")));
      list.append(line);
    });
    box.append(list, tokens(found));
    return box;
  }

  function tokens(found) {
    const box = element("div");
    if (!found.tokens.length) return box;
    const row = element("div", "codes");
    const near = element("div", "near");
    near.hidden = true;
    const book = codes[found.cell];
    found.tokens.forEach((token) => {
      const name = book ? (token === book.null ? "null" : "c" + (token - book.first)) : String(token);
      const button = element("button", "", name);
      button.type = "button";
      button.addEventListener("click", () => {
        const texts = book && book.texts[token];
        near.hidden = false;
        near.replaceChildren(...(texts
          ? texts.map((one) => element("div", "", name + " · " + one[0] + " · " + one[1]))
          : [element("div", "", name + ": no anchor whose texts are known here")]));
      });
      row.append(button);
    });
    box.append(row, near);
    return box;
  }

  function show(items) {
    const arm = field("arm").value, kind = field("kind").value, beside = field("beside").value;
    const chosen = items.filter((item) => {
      const found = item.answers[arm];
      return found && (!kind || (found.said === item.gold) === (kind === "right"));
    });
    const right = items.filter((item) => item.answers[arm] && item.answers[arm].said === item.gold).length;
    document.getElementById("count").textContent = chosen.length + " items; " + arm + " has " + right + " of " + items.length + " right in this sample.";
    document.getElementById("items").replaceChildren(...chosen.map((item) => {
      const box = element("article", "item");
      box.append(element("blockquote", "", item.text), element("p", "note", item.question + " · " + item.id));
      box.append(answer(item, arm));
      if (beside && beside !== arm) box.append(answer(item, beside));
      return box;
    }));
  }

  function update() {
    const part = parts.find((one) => one.task === field("task").value && one.lang === field("lang").value);
    if (!part) { document.getElementById("items").replaceChildren(); document.getElementById("count").textContent = "No items of this task in this language."; return; }
    if (loaded[part.file]) show(loaded[part.file]);
    else load(part.file, () => show(loaded[part.file]));
  }

  document.documentElement.classList.add("live");
  ["arm", "task", "lang", "kind", "beside"].forEach((name) => field(name).addEventListener("change", update));
  load("codes.js", update);
})();
