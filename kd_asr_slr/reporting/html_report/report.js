"use strict";

// Numbers by their value ("24.37 to 27.01" by the first), everything else by the alphabet; "-" always last.
function key(cell) {
  const text = cell.textContent.trim();
  if (text === "-" || text === "") return null;
  const found = /^[<+]?\s*(-?[\d.]+(?:e-?\d+)?)/.exec(text.replace(/,(?=\d)/g, ""));
  return cell.classList.contains("number") && found ? Number(found[1]) - (text.startsWith("<") ? 1e-9 : 0) : text;
}

function sort(table, column, descending) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [key(row.cells[column]), row]);
  rows.sort(([left], [right]) => {
    if (left === null || right === null) return (left === null) - (right === null);
    const order = typeof left === "number" && typeof right === "number"
      ? left - right : String(left).localeCompare(String(right), undefined, { numeric: true });
    return descending ? -order : order;
  });
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    sort(table, column, descending);
  }));
}

const filter = document.getElementById("filter");
if (filter) {
  const articles = Array.from(document.querySelectorAll(".utterance"));
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    for (const article of articles) article.hidden = !article.dataset.text.toLowerCase().includes(wanted);
    const shown = articles.filter((article) => !article.hidden).length;
    document.getElementById("filtered").textContent = wanted ? `${shown} of ${articles.length}` : "";
  });
}
