// Pointer, wheel, keys and the list under the diagram. One scope with draw.js.

// ---- what is under the pointer

const distance = (it, px, py) => {
  if (it.of !== "message") {
    const dx = Math.max(it.x1 - px, 0, px - it.x2), dy = Math.max(it.y1 - py, 0, py - it.y2);
    return Math.hypot(dx, dy);
  }
  const [dx, dy] = [it.x2 - it.x1, it.y2 - it.y1];
  const part = ((px - it.x1) * dx + (py - it.y1) * dy) / (dx * dx + dy * dy || 1);
  const along = Math.max(0, Math.min(1, part));
  return Math.hypot(px - it.x1 - along * dx, py - it.y1 - along * dy) + 1;
};
const find = (px, py) => {
  let best = null, least = 5;
  if (px < GUTTER) return null;
  for (let index = hits.length - 1; index >= 0; index -= 1) {
    const far = distance(hits[index], px, py);
    if (far < least) { least = far; best = hits[index]; }
  }
  return best;
};
const partsOf = ({ of, index }) => {
  switch (of) {
    case "message": return [letters[index].sent, letters[index].arrived];
    case "disk": return [works[index].submitted, works[index].happened, works[index].completed];
    case "operation": return [acts[index].began, acts[index].ended];
    default: return [index];
  }
};
const holding = (occurrence) => {
  for (const of of ["message", "disk", "operation"]) {
    const all = { message: letters, disk: works, operation: acts }[of];
    const index = all.findIndex((_, place) => partsOf({ of, index: place }).includes(occurrence));
    if (index >= 0) return { of, index };
  }
  return { of: "mark", index: occurrence };
};
// What became of something that has no end.
const endOf = ({ of, index }) => {
  if (of === "message" && letters[index].state === "flying") return "never arrived";
  if (of === "disk" && works[index].cut) return "never completed: cut off, or at the end";
  return of === "operation" && acts[index].ended < 0 ? "never ended" : "";
};
const describe = (mark) => {
  const parts = partsOf(mark).filter((index) => index >= 0);
  const lines = parts.map((index) => {
    const it = occurrences[index];
    return `${exact(it[TIME])}  ${lanes[it[LANE]]}  ${it[TEXT]}`;
  });
  const ends = parts.map((index) => occurrences[index][TIME]);
  if (ends.length > 1) lines.push("took " + length(ends[ends.length - 1] - ends[0]));
  const end = endOf(mark);
  if (end) lines.push(end);
  return lines.join("\n");
};
const showTip = (event) => {
  if (!hover) { tip.style.display = "none"; return; }
  tip.textContent = describe(hover);
  tip.style.display = "block";
  const { offsetWidth: wide, offsetHeight: tall } = tip;
  tip.style.left = Math.min(event.clientX + 14, innerWidth - wide - 8) + "px";
  const below = event.clientY + 16 + tall < innerHeight;
  tip.style.top = (below ? event.clientY + 16 : event.clientY - tall - 10) + "px";
};

// ---- the list of what happened in view

const LISTED = 400;
let listing = 0;
const relist = () => { clearTimeout(listing); listing = setTimeout(showList, 120); };
const showList = () => {
  const parts = chosen ? partsOf(chosen) : [];
  const seen = [];
  occurrences.forEach((it, index) => {
    if (!shown[it[KIND]] || it[TIME] < view.from || it[TIME] > view.to) return;
    if (!wanted || matches(index)) seen.push(index);
  });
  // Around what is chosen, or at the end: what is wrong is seen late.
  let cut = Math.max(0, seen.length - LISTED);
  const middle = seen.findIndex((index) => parts.includes(index));
  if (middle >= 0) cut = Math.max(0, Math.min(cut, middle - LISTED / 2));
  const some = seen.slice(cut, cut + LISTED);
  const rows = some.map((index) => {
    const it = occurrences[index], row = document.createElement("div");
    const cells = [[exact(it[TIME]), "time quiet mono"], [lanes[it[LANE]], ""],
      [kinds[it[KIND]].name, ""], [it[TEXT], ""]];
    for (const [text, className] of cells) {
      const cell = document.createElement("span");
      cell.textContent = text; cell.className = className;
      row.append(cell);
    }
    row.children[2].style.color = colors[kinds[it[KIND]].color];
    row.classList.toggle("chosen", parts.includes(index));
    row.onclick = () => { chosen = holding(index); centre(it[TIME]); };
    return row;
  });
  const momentInView = view.from <= data.moment && data.moment <= view.to;
  if (data.violated && momentInView && cut + LISTED >= seen.length) {
    const row = document.createElement("div"), text = document.createElement("span");
    const time = document.createElement("span");
    time.textContent = exact(data.moment); time.className = "time mono end";
    text.textContent = data.label + " does not hold"; text.className = "end";
    row.append(time, document.createElement("span"), document.createElement("span"), text);
    const after = some.findIndex((index) => occurrences[index][TIME] > data.moment);
    rows.splice(after < 0 ? rows.length : after, 0, row);
  }
  list.replaceChildren(...rows);
  at("listed").textContent = seen.length > some.length
    ? `${some.length} of ${seen.length} in view; zoom in for the others`
    : `${seen.length} in view`;
  const target = list.querySelector(".chosen") ?? list.querySelector(".end")?.parentElement;
  if (target) list.scrollTop = target.offsetTop - list.offsetTop - list.clientHeight / 2;
  else list.scrollTop = list.scrollHeight;
};

// ---- pointer, wheel and keys

let dragged = null;
canvas.addEventListener("wheel", (event) => {
  if (event.ctrlKey || event.metaKey || Math.abs(event.deltaX) <= Math.abs(event.deltaY)) {
    event.preventDefault();
    if (event.shiftKey) pan(event.deltaY / 800);
    else zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), timeAt(event.offsetX));
  } else { event.preventDefault(); pan(event.deltaX / 800); }
}, { passive: false });
const pan = (part) => {
  const by = (view.to - view.from) * part;
  look(view.from + by, view.to + by);
};
canvas.addEventListener("pointerdown", (event) => {
  dragged = { x: event.offsetX, from: view.from, to: view.to, moved: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (dragged) {
    const by = (dragged.x - event.offsetX) / (width - GUTTER - 8) * (dragged.to - dragged.from);
    dragged.moved ||= Math.abs(dragged.x - event.offsetX) > 3;
    canvas.classList.toggle("dragging", dragged.moved);
    if (dragged.moved) look(dragged.from + by, dragged.to + by);
    return;
  }
  const found = find(event.offsetX, event.offsetY);
  if (!same(found, hover) && (found || hover)) { hover = found; schedule(); }
  canvas.classList.toggle("over", Boolean(found));
  showTip(event);
});
canvas.addEventListener("pointerup", (event) => {
  if (dragged && !dragged.moved) {
    const found = find(event.offsetX, event.offsetY);
    chosen = found && { of: found.of, index: found.index };
    schedule(); showList();
  }
  dragged = null;
  canvas.classList.remove("dragging");
});
canvas.addEventListener("pointerleave", () => {
  hover = null; tip.style.display = "none"; schedule();
});
canvas.addEventListener("dblclick", (event) => zoom(0.25, timeAt(event.offsetX)));
const jump = (event) => {
  if (event.buttons) centre(first + event.offsetX / overview.clientWidth * (last - first));
};
overview.addEventListener("pointerdown", jump);
overview.addEventListener("pointermove", jump);
const strikes = occurrences.filter((it) => [kindOf.strike, kindOf.panic].includes(it[KIND]))
  .map((it) => it[TIME]);
const step = (back) => {
  const now = (view.from + view.to) / 2, near = 1000;
  const ahead = back ? strikes.filter((time) => time < now - near).pop()
    : strikes.find((time) => time > now + near);
  if (ahead !== undefined) centre(ahead, 40e6);
};
const magnify = (factor) => () => zoom(factor, (view.from + view.to) / 2);
const keys = { "+": magnify(0.5), "-": magnify(2), "0": whole, v: theEnd,
  n: () => step(false), p: () => step(true),
  ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2) };
keys["="] = keys["+"];
addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); at("search").focus(); }
  const act = keys[event.key];
  if (act) { event.preventDefault(); act(); }
});
at("whole").onclick = whole;
at("moment").onclick = theEnd;
at("next").onclick = () => step(false);
at("before").onclick = () => step(true);
at("search").oninput = (event) => {
  wanted = event.target.value.trim().toLowerCase(); schedule(); relist();
};
kinds.forEach((kind, index) => {
  const box = at("kind-" + kind.name);
  if (!box) return;
  box.onchange = () => {
    shown[index] = box.checked;
    box.parentElement.classList.toggle("off", !box.checked);
    schedule(); relist();
  };
});
for (const link of document.querySelectorAll("[data-time]")) {
  link.onclick = () => {
    centre(Number(link.dataset.time), 40e6);
    at("bar").scrollIntoView({ behavior: "smooth" });
  };
}
for (const code of document.querySelectorAll(".commands code")) {
  code.title = "click to copy";
  code.onclick = () => {
    getSelection().selectAllChildren(code);
    if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).catch(() => {});
  };
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColors(); schedule(); showList();
});
new ResizeObserver(schedule).observe(canvas);
at("trace")?.scrollTo(0, at("trace").scrollHeight);
readColors();
if (data.violated) theEnd(); else whole();
// For pictures and links: #from-to in milliseconds.
const asked = location.hash.match(/^#([\d.]+)-([\d.]+)$/);
if (asked) look(Number(asked[1]) * 1e6, Number(asked[2]) * 1e6);
