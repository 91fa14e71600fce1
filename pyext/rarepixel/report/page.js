"use strict";
// Tables sort by a click on a head, methods come forward by a click on the legend, the command is copied. Without this
// script all of it is there, unsorted by others.
for (const table of document.querySelectorAll("table.methods")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[place];
        return place ? parseFloat(cell.dataset.value) : cell.textContent.trim().toLowerCase();
      };
      const rows = [...body.rows];
      rows.sort((one, other) => {
        const a = key(one), b = key(other);
        // What has no number stays below.
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        const order = a < b ? -1 : a > b ? 1 : 0;
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
}
const root = document.documentElement;
for (const item of document.querySelectorAll(".legend li")) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  button.append(...item.childNodes);
  item.append(button);
  button.addEventListener("click", () => {
    const only = root.dataset.only === item.dataset.method ? null : item.dataset.method;
    if (only === null) delete root.dataset.only;
    else root.dataset.only = only;
    for (const other of document.querySelectorAll(".legend li")) {
      other.firstElementChild.setAttribute("aria-pressed", String(other.dataset.method === only));
    }
    for (const series of document.querySelectorAll(".series")) {
      series.classList.toggle("on", only !== null && series.classList.contains("m" + only));
    }
  });
}
for (const box of document.querySelectorAll(".command")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", () => {
    const text = box.querySelector("pre").textContent;
    const said = (word) => {
      button.textContent = word;
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    };
    const select = () => {
      getSelection().selectAllChildren(box.querySelector("pre"));
      said("Selected");
    };
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => said("Copied"), select);
    else select();
  });
  box.append(button);
}
// Paper has no folds.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((one) => { one.open = true; });
});
addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
