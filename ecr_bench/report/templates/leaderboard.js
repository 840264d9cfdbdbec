// Hides the lines of the leaderboard that the filters leave out. Without it all lines are there.
(function () {
  "use strict";
  const rows = [...document.querySelectorAll("#board tbody tr")];
  const names = ["corpus", "precision", "size"];
  const field = (name) => document.getElementById("f-" + name);
  function update() {
    const wanted = names.map((name) => [name, field(name).value]).filter((one) => one[1]);
    rows.forEach((row) => { row.hidden = !wanted.every(([name, value]) => row.dataset[name] === value); });
    const shown = rows.filter((row) => !row.hidden).length;
    document.getElementById("count").textContent = shown + " of " + rows.length + " lines.";
  }
  document.documentElement.classList.add("live");
  names.forEach((name) => field(name).addEventListener("change", update));
  const first = field("precision").options[1];
  if (first) first.selected = true;
  update();
})();
