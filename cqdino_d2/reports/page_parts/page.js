"use strict";
// All texts are set by textContent: a name is never read as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const names = data.names;
  const AT_ONCE = 200;

  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  // "a" before "b", numbers by value, what is unknown last in both directions.
  function ordered(rows, valueOf, down) {
    const sign = down ? -1 : 1;
    return rows.sort((one, other) => {
      const a = valueOf(one), b = valueOf(other);
      if (a === null || b === null) return (a === null) - (b === null) || one - other;
      const way = typeof a === "string" ? a.localeCompare(b) : a - b;
      return sign * way || one - other;
    });
  }

  // ---- the tree: children are made when their parent is first opened
  const tree = data.tree;
  const children = names.map(() => []);
  if (tree) tree.parents.forEach((row, node) => row.forEach((parent) => children[parent].push(node)));

  function describe(line, node) {
    line.append(element("span", names[node]));
    const meter = element("span", undefined, "meter");
    const bar = element("i");
    const ap = tree.ap[node];
    if (ap !== null) {
      bar.style.width = `${ap}%`;
      bar.style.background = `hsl(${1.2 * ap}, 60%, 42%)`;
    }
    meter.append(bar);
    line.append(meter, element("b", ap === null ? "-" : ap.toFixed(1)));
    const count = tree.categories[node];
    const many = children[node].length ? ` · ${count.toLocaleString("en")} ${count === 1 ? "category" : "categories"}` : "";
    const boxes = tree.boxes[node];
    line.append(element("span", `${many} · ${boxes.toLocaleString("en")} ${boxes === 1 ? "box" : "boxes"}`, "quiet"));
  }

  function shown(nodes) {
    const order = document.getElementById("tree-order").value;
    const key = order.replace("-", "");
    const valueOf = key === "name" ? (node) => names[node] : (node) => tree[key][node];
    return ordered(nodes.filter((node) => tree.categories[node] > 0), valueOf, order.startsWith("-"));
  }

  function fill(parent, nodes, start) {
    for (const node of nodes.slice(start, start + AT_ONCE)) {
      if (!children[node].length) {
        const leaf = element("div", undefined, "leaf");
        describe(leaf, node);
        parent.append(leaf);
        continue;
      }
      const branch = element("details");
      const summary = element("summary");
      describe(summary, node);
      branch.append(summary);
      branch.addEventListener("toggle", () => {
        if (branch.open && branch.childElementCount === 1) fill(branch, shown(children[node]), 0);
      });
      parent.append(branch);
    }
    const left = nodes.length - start - AT_ONCE;
    if (left <= 0) return;
    const more = element("button", `${left.toLocaleString("en")} more`);
    more.addEventListener("click", () => { more.remove(); fill(parent, nodes, start + AT_ONCE); });
    parent.append(more);
  }

  function plantTree() {
    const root = document.getElementById("tree-root");
    root.replaceChildren();
    const roots = shown(names.map((_, node) => node).filter((node) => !tree.parents[node].length));
    fill(root, roots, 0);
    if (roots.length === 1 && root.firstChild.tagName === "DETAILS") root.firstChild.open = true;
  }

  if (tree) {
    document.getElementById("tree-order").addEventListener("change", plantTree);
    plantTree();
  }

  // ---- the table of categories
  const total = data.columns[0].values.length;
  function pathOf(category) {
    const path = [];
    let node = category;
    while (tree && tree.parents[node].length) {
      node = tree.parents[node][0];
      path.unshift(names[node]);
    }
    return path.join(" › ");
  }
  const columns = [{ label: "name", values: names.slice(0, total) }, ...data.columns];
  const rowsOf = Array.from({ length: total }, (_, row) => row);
  const takenFor = rowsOf.map((row) => {
    const most = data.takenFor[row];
    return most ? `${names[most[0]]} (${most[1]})` : "";
  });
  columns.push({ label: "most often taken for", values: takenFor });
  if (tree) columns.push({ label: "branch", values: rowsOf.map(pathOf) });
  const texts = rowsOf.map((row) =>
    `${names[row]}\n${data.columns[0].values[row]}\n${tree ? columns.at(-1).values[row] : ""}`.toLowerCase());

  const state = { column: columns.findIndex((c) => c.label === "AP"), down: false, shown: AT_ONCE };
  const head = document.querySelector("#category-table thead");
  const body = document.querySelector("#category-table tbody");
  const search = document.getElementById("category-search");

  function cell(column, row) {
    const value = column.values[row];
    const numeric = typeof value === "number" || value === null;
    const text = value === null ? "-" : column.decimals
      ? value.toFixed(column.decimals) : `${value}`;
    const made = element("td", text, numeric ? "number" : "");
    if (column.label === "name" && data.pictured[row] !== undefined) {
      const link = element("a", text);
      link.href = `#${data.pictured[row]}`;
      made.replaceChildren(link);
    }
    return made;
  }

  function showTable() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let rows = rowsOf.filter((row) => words.every((word) => texts[row].includes(word)));
    rows = ordered(rows, (row) => columns[state.column].values[row], state.down);
    const visible = rows.slice(0, state.shown);
    body.replaceChildren(...visible.map((row) => {
      const line = element("tr");
      line.append(...columns.map((column) => cell(column, row)));
      return line;
    }));
    document.getElementById("category-count").textContent =
      `${rows.length.toLocaleString("en")} of ${total.toLocaleString("en")} categories, ${visible.length.toLocaleString("en")} shown`;
    document.getElementById("category-more").hidden = visible.length === rows.length;
    [...head.rows[0].cells].forEach((th, place) => {
      th.classList.toggle("sorted", place === state.column);
      th.classList.toggle("down", place === state.column && state.down);
    });
  }

  const titles = element("tr");
  columns.forEach((column, place) => {
    const th = element("th", column.label, typeof column.values[0] === "string" ? "" : "number");
    th.addEventListener("click", () => {
      state.down = state.column === place ? !state.down : false;
      state.column = place;
      showTable();
    });
    titles.append(th);
  });
  head.append(titles);
  search.addEventListener("input", () => { state.shown = AT_ONCE; showTable(); });
  document.getElementById("category-more").addEventListener("click", () => { state.shown += AT_ONCE; showTable(); });
  showTable();
})();
