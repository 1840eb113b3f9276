// The diagram: layout and drawing. One scope with input.js, which reads pointer and keys.

const data = JSON.parse(document.getElementById("data").textContent);
const { lanes, kinds, occurrences, messages, disk, operations, lives } = data;
const TIME = 0, LANE = 1, KIND = 2, TEXT = 3;
const kindOf = Object.fromEntries(kinds.map((kind, index) => [kind.name, index]));
const shown = kinds.map(() => true);
const at = (id) => document.getElementById(id);
const canvas = at("diagram"), overview = at("overview"), tip = at("tip"), list = at("list");
const context = canvas.getContext("2d"), small = overview.getContext("2d");
const first = data.start, last = Math.max(data.end, data.start + 1000);
const GUTTER = 150, AXIS = 24, ROW = 5, CLIENT_ROW = 9, PAD = 12;
// Few lanes stand far apart, so that lines between them are not steep.
const LANE_HEIGHT = Math.max(30, Math.min(90, 240 / lanes.length));

// ---- colours: those of the page, whichever scheme it has

let colors = {};
const readColors = () => {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "quiet", "line", "good", "bad", "accent", "panel", "band", "running",
    "paused", "down", "unsure", ...kinds.map((kind) => kind.color)];
  const color = (name) => style.getPropertyValue("--" + name).trim();
  colors = Object.fromEntries(names.map((name) => [name, color(name)]));
};

// ---- layout: each lane has its line, rows of disk operations below it, and clients' rows

// Gives each span the first row that is free; gives the number of rows.
const pack = (spans, most) => {
  const ends = [];
  for (const span of spans) {
    let row = ends.findIndex((end) => end <= span.from);
    if (row < 0) row = ends.length < most ? ends.length : ends.indexOf(Math.min(...ends));
    ends[row] = Math.max(ends[row] ?? 0, span.to);
    span.row = row;
  }
  return ends.length;
};
const open = last + (last - first) * 10;
const timeOf = (index, otherwise) => (index < 0 ? otherwise : occurrences[index][TIME]);
// A message on its way at the end has no arrival to draw to.
const letters = messages.map(([sent, arrived, from, to, state]) => (
  { sent, arrived, from, to, state, start: timeOf(sent, first), end: timeOf(arrived, NaN) }));
const works = disk.map(([submitted, happened, completed, lane, failed]) => ({
  submitted, happened, completed, lane, failed,
  from: timeOf(submitted, first), to: timeOf(completed, timeOf(happened, open)),
  cut: completed < 0 }));
const acts = operations.map(([began, ended, lane, client, outcome]) => ({
  began, ended, lane, client, outcome, from: timeOf(began, first), to: timeOf(ended, open) }));
const stopsOf = lanes.map(() => []);
for (const [lane, , to, state] of lives) if (state !== "down") stopsOf[lane].push(to);
// What a crash cut off ends with the process, not with the run.
for (const span of [...works, ...acts]) {
  if (span.to === open) span.to = stopsOf[span.lane].find((end) => end >= span.from) ?? last;
}
const layout = [];
let height = AXIS + PAD;
lanes.forEach((name, lane) => {
  const mine = works.filter((work) => work.lane === lane).sort((a, b) => a.from - b.from);
  const rows = pack(mine, 5);
  const y = height + 12;
  height = y + 8 + rows * ROW + (lane + 1 < lanes.length ? LANE_HEIGHT : 16);
  layout.push({ name, y, rows });
});
const clients = [];
for (const act of acts) {
  let client = clients.find((it) => it.lane === act.lane && it.number === act.client);
  if (!client) clients.push(client = { lane: act.lane, number: act.client, acts: [] });
  client.acts.push(act);
  act.owner = client;
}
clients.sort((a, b) => a.lane - b.lane || a.number - b.number);
if (clients.length) height += 4;
for (const client of clients) {
  client.acts.sort((a, b) => a.from - b.from);
  client.rows = pack(client.acts, 6);
  client.y = height;
  height += client.rows * CLIENT_ROW + 8;
}
height += PAD;

// ---- the view

const view = { from: first, to: last };
let width = 0, hits = [], hover = null, chosen = null, wanted = "", scheduled = false;
const x = (time) => GUTTER + (time - view.from) / (view.to - view.from) * (width - GUTTER - 8);
const timeAt = (px) => view.from + (px - GUTTER) / (width - GUTTER - 8) * (view.to - view.from);
const schedule = () => {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => { scheduled = false; draw(); });
};
const look = (from, to) => {
  const whole = last - first;
  const span = Math.min(Math.max(to - from, 200), whole * 1.1);
  const middle = (from + to) / 2;
  const low = first - whole * 0.05, high = last + whole * 0.05;
  view.from = Math.min(Math.max(middle - span / 2, low), Math.max(low, high - span));
  view.to = view.from + span;
  schedule();
  relist();
};
const zoom = (factor, around) => look(
  around - (around - view.from) * factor, around + (view.to - around) * factor);
const whole = () => look(first - (last - first) * 0.01, last + (last - first) * 0.01);
const theEnd = () => look(data.moment - 20e6, data.moment + 1.5e6);
const centre = (time, most) => {
  const span = Math.min(view.to - view.from, most ?? Infinity);
  look(time - span / 2, time + span / 2);
};

const unit = (span) => (span < 2e4 ? [1, "ns"] : span < 2e7 ? [1e3, "µs"] : span < 2e10
  ? [1e6, "ms"] : [1e9, "s"]);
const exact = (time) => (time / 1e6).toFixed(6).replace(/\B(?=(\d{3})+(?=\.))/g, " ") + " ms";
const length = (nanos) => {
  const [scale, name] = unit(nanos);
  return (nanos / scale).toFixed(scale === 1 ? 0 : 2) + " " + name;
};

// ---- drawing

const line = (x1, y1, x2, y2) => {
  context.beginPath(); context.moveTo(x1, y1); context.lineTo(x2, y2); context.stroke();
};
const hit = (what, x1, y1, x2, y2) => hits.push({ ...what, x1, y1, x2, y2 });
const same = (one, other) => one && other && one.of === other.of && one.index === other.index;
const inView = (from, to) => to >= view.from && from <= view.to;
const matches = (index) => index >= 0 && occurrences[index][TEXT].toLowerCase().includes(wanted);
const lit = (...indices) => wanted && indices.some(matches);
const faded = (...indices) => (wanted && !indices.some(matches) ? 0.12 : 1);

const drawAxis = () => {
  const span = view.to - view.from;
  const [scale, name] = unit(span);
  const rough = span / Math.max(3, (width - GUTTER) / 130);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((it) => it * power).find((it) => it >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step / scale) + 1e-9));
  context.font = "11px ui-monospace, monospace";
  context.textAlign = "center";
  context.lineWidth = 1;
  for (let time = Math.ceil(view.from / step) * step; time <= view.to; time += step) {
    if (time < 0) continue;
    context.strokeStyle = colors.line;
    line(x(time), AXIS, x(time), height);
    context.fillStyle = colors.quiet;
    context.fillText((time / scale).toFixed(digits) + " " + name, x(time), 15);
  }
};

const drawLanes = () => {
  for (const [lane, from, to, state] of lives) {
    if (!inView(from, to)) continue;
    const y = layout[lane].y;
    const [left, right] = [Math.max(GUTTER, x(from)), Math.min(width - 8, x(to))];
    if (state === "none") continue;
    context.fillStyle = colors[state];
    context.fillRect(left, y - 7, Math.max(1, right - left), 14);
    if (state !== "down") continue;
    context.save();
    context.beginPath(); context.rect(left, y - 7, right - left, 14); context.clip();
    context.strokeStyle = colors.strike; context.globalAlpha = 0.45; context.lineWidth = 1;
    for (let at = left - 14 - left % 7; at < right; at += 7) line(at, y + 7, at + 14, y - 7);
    context.restore();
  }
  for (const { y } of layout) {
    context.strokeStyle = colors.quiet; context.lineWidth = 1;
    line(GUTTER, y, width - 8, y);
  }
};

const drawDisk = () => {
  works.forEach((work, index) => {
    if (!inView(work.from, work.to)) return;
    const y = layout[work.lane].y + 11 + work.row * ROW;
    const [left, right] = [x(work.from), Math.max(x(work.to), x(work.from) + 1.5)];
    context.globalAlpha = faded(work.submitted, work.completed) * (work.cut ? 0.55 : 0.9);
    context.fillStyle = work.failed ? colors.bad : colors.disk;
    context.fillRect(left, y, right - left, ROW - 1.5);
    if (work.happened >= 0 && right - left > 6) {
      context.fillStyle = colors.ink;
      context.fillRect(x(occurrences[work.happened][TIME]) - 0.75, y - 0.5, 1.5, ROW - 0.5);
    }
    if (work.cut && right - left > 6) {
      context.fillStyle = colors.bad;
      context.fillRect(right - 2, y - 0.5, 2, ROW - 0.5);
    }
    hit({ of: "disk", index }, left, y, right, y + ROW - 1.5);
  });
  context.globalAlpha = 1;
};

const drawMessages = () => {
  const seen = letters.filter((it) => inView(it.start, Number.isNaN(it.end) ? it.start : it.end));
  const alpha = Math.max(0.12, Math.min(0.9, 320 / Math.max(1, seen.length)));
  letters.forEach((letter, index) => {
    const flying = Number.isNaN(letter.end);
    if (!inView(letter.start, flying ? letter.start : letter.end)) return;
    const [y1, y2] = [layout[letter.from].y, layout[letter.to].y];
    const self = letter.from === letter.to;
    const x1 = x(letter.start);
    const x2 = flying ? x1 + 14 : x(letter.end);
    const stop = flying ? y1 + (y2 - y1) * 0.35 : y2;
    const marked = lit(letter.sent, letter.arrived);
    context.globalAlpha = marked ? 1 : alpha * faded(letter.sent, letter.arrived);
    context.strokeStyle = letter.state === "arrived" ? colors.message : colors.bad;
    context.lineWidth = marked ? 2 : 1.2;
    context.setLineDash(letter.state === "arrived" ? [] : [4, 3]);
    context.beginPath();
    context.moveTo(x1, y1);
    if (self) context.quadraticCurveTo((x1 + x2) / 2, y1 - 22, x2, y2);
    else context.lineTo(x2, stop);
    context.stroke();
    if (seen.length < 900) {
      context.setLineDash([]);
      context.fillStyle = context.strokeStyle;
      context.beginPath(); context.arc(x1, y1, 1.8, 0, 7); context.fill();
      if (letter.state === "lost") cross(x2, stop, 4);
      else if (!flying) arrow(x1, y1, x2, stop, self);
    }
    hit({ of: "message", index }, x1, y1, x2, self ? y1 - 1 : stop);
  });
  context.setLineDash([]);
  context.globalAlpha = 1;
};
const arrow = (x1, y1, x2, y2, self) => {
  const angle = self ? Math.atan2(22, (x2 - x1) / 2 || 1) : Math.atan2(y2 - y1, x2 - x1);
  context.beginPath();
  context.moveTo(x2, y2);
  for (const turn of [-0.35, 0.35]) {
    context.lineTo(x2 - 7 * Math.cos(angle + turn), y2 - 7 * Math.sin(angle + turn));
  }
  context.fill();
};
const cross = (px, py, size) => {
  context.lineWidth = 2;
  line(px - size, py - size, px + size, py + size);
  line(px - size, py + size, px + size, py - size);
};

// What happens at one moment, by the shape of its mark.
const shapes = {
  strike: (px, py) => { context.lineWidth = 3; cross(px, py, 6); },
  panic: (px, py) => { context.lineWidth = 3; cross(px, py, 7); },
  fault: (px, py) => {
    context.beginPath();
    context.moveTo(px, py - 6); context.lineTo(px + 5, py); context.lineTo(px, py + 6);
    context.lineTo(px - 5, py); context.fill();
  },
  control: (px, py) => {
    context.beginPath();
    context.moveTo(px - 4, py - 6); context.lineTo(px + 5, py); context.lineTo(px - 4, py + 6);
    context.fill();
  },
  link: (px, py) => context.fillRect(px - 2, py - 8, 4, 16),
  connection: (px, py) => {
    context.beginPath(); context.arc(px, py, 3, 0, 7); context.lineWidth = 1.5; context.stroke();
  },
  note: (px, py) => {
    context.fillRect(px - 1, py - 13, 2, 13); context.fillRect(px, py - 13, 7, 5);
  },
};
// What strikes a machine strikes all of its lanes.
const machineOf = lanes.map((name) => name.slice(0, name.lastIndexOf("/")));
const strikeThrough = (lane, px) => {
  const mine = layout.filter((_, other) => machineOf[other] === machineOf[lane]);
  context.lineWidth = 1.5;
  line(px, mine[0].y - 9, px, mine[mine.length - 1].y + 9);
};
// Faults of the disk stand by its operations, others above the line, so that none hides another.
const lift = { fault: -14, note: 0, strike: 0, control: 0, connection: 0, link: 0, panic: 0 };
const drawMarks = () => {
  for (const name of ["connection", "control", "link", "note", "fault", "strike", "panic"]) {
    const kind = kindOf[name];
    if (!shown[kind]) continue;
    const color = colors[kinds[kind].color];
    let before = {};
    occurrences.forEach((it, index) => {
      if (it[KIND] !== kind || it[TIME] < view.from || it[TIME] > view.to) return;
      const [px, py] = [x(it[TIME]), layout[it[LANE]].y + lift[name]];
      // Marks that would lie on each other are drawn once.
      const crowded = px - (before[it[LANE]] ?? -9) < 0.4;
      before[it[LANE]] = px;
      hit({ of: "mark", index }, px - 5, py - 6, px + 5, py + 6);
      if (crowded && !wanted) return;
      context.globalAlpha = faded(index);
      context.fillStyle = context.strokeStyle = color;
      if (name === "strike") strikeThrough(it[LANE], px);
      shapes[name](px, py);
    });
  }
  context.globalAlpha = 1;
};

const drawOperations = () => {
  context.font = "11px system-ui, sans-serif";
  for (const client of clients) {
    context.fillStyle = colors.band;
    context.fillRect(GUTTER, client.y - 2, width - GUTTER - 8, client.rows * CLIENT_ROW + 3);
  }
  acts.forEach((act, index) => {
    if (!inView(act.from, act.to)) return;
    const y = act.owner.y + act.row * CLIENT_ROW;
    const left = Math.max(x(act.from), GUTTER);
    const right = Math.max(Math.min(x(act.to), width - 8), left + 1.5);
    context.globalAlpha = faded(act.began, act.ended) * (act.outcome === "open" ? 0.6 : 0.85);
    context.fillStyle = { good: colors.good, bad: colors.bad, open: colors.unsure }[act.outcome];
    context.fillRect(left, y, Math.max(right - left - 1, 1), CLIENT_ROW - 2);
    hit({ of: "operation", index }, left, y, right, y + CLIENT_ROW - 2);
  });
  context.globalAlpha = 1;
};

const drawMoment = () => {
  if (data.moment === null) return;
  const px = x(data.moment);
  if (px < GUTTER || px > width) return;
  context.strokeStyle = context.fillStyle = data.violated ? colors.bad : colors.quiet;
  context.lineWidth = 2;
  context.setLineDash(data.violated ? [] : [3, 3]);
  line(px, AXIS - 4, px, height);
  context.setLineDash([]);
  context.font = "bold 12px system-ui, sans-serif";
  const room = width - px > 30 + context.measureText(data.label).width;
  context.textAlign = room ? "left" : "right";
  context.fillText(data.label, px + (room ? 5 : -5), AXIS + 8);
};

const drawGutter = () => {
  context.fillStyle = colors.panel;
  context.fillRect(0, 0, GUTTER, height);
  context.textAlign = "left";
  const label = (text, y, size, color) => {
    context.font = size + " system-ui, sans-serif";
    context.fillStyle = color;
    context.fillText(text, 2, y, GUTTER - 10);
  };
  for (const { name, y, rows } of layout) {
    label(name, y + 4, "600 13px", colors.ink);
    if (rows) label("disk", y + 18, "11px", colors.quiet);
  }
  for (const client of clients) {
    label(`${lanes[client.lane]} · client ${client.number}`, client.y + 8, "11px", colors.quiet);
  }
};

const drawChosen = () => {
  for (const mark of [hover, chosen]) {
    const found = mark && hits.find((it) => same(it, mark));
    if (!found) continue;
    context.strokeStyle = colors.accent; context.lineWidth = mark === chosen ? 3 : 2;
    if (found.of === "message") line(found.x1, found.y1, found.x2, found.y2);
    else {
      const [left, top] = [Math.max(found.x1, GUTTER) - 2.5, found.y1 - 2.5];
      context.strokeRect(left, top, found.x2 - left + 2.5, found.y2 - top + 2.5);
    }
  }
};

const draw = () => {
  hits = [];
  const ratio = devicePixelRatio || 1;
  width = canvas.clientWidth;
  const [wide, tall] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== tall) {
    canvas.style.height = height + "px";
    canvas.width = wide; canvas.height = tall;
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  drawAxis();
  drawLanes();
  if (shown[kindOf.operation]) drawOperations();
  if (shown[kindOf.disk]) drawDisk();
  if (shown[kindOf.message]) drawMessages();
  drawMarks();
  drawMoment();
  drawChosen();
  drawGutter();
  drawOverview(ratio);
  at("range").textContent = exact(Math.max(0, view.from)) + " – " + exact(view.to) + " (" +
    length(view.to - view.from) + ")";
};

const drawOverview = (ratio) => {
  const [wide, tall] = [overview.clientWidth, 34];
  overview.width = Math.round(wide * ratio); overview.height = Math.round(tall * ratio);
  small.setTransform(ratio, 0, 0, ratio, 0, 0);
  small.fillStyle = colors.band; small.fillRect(0, 0, wide, tall);
  const place = (time) => (time - first) / (last - first) * wide;
  const bins = new Array(Math.max(1, Math.floor(wide / 2))).fill(0);
  for (const it of occurrences) {
    bins[Math.min(bins.length - 1, Math.floor(place(it[TIME]) / 2))] += 1;
  }
  const most = Math.log1p(Math.max(...bins, 1));
  small.fillStyle = colors.quiet; small.globalAlpha = 0.55;
  bins.forEach((count, bin) => {
    const rise = Math.log1p(count) / most * (tall - 6);
    small.fillRect(bin * 2, tall - rise, 2, rise);
  });
  small.globalAlpha = 1;
  for (const it of occurrences) {
    if (it[KIND] !== kindOf.strike && it[KIND] !== kindOf.panic) continue;
    small.fillStyle = colors.strike; small.fillRect(place(it[TIME]) - 1, 0, 2, tall);
  }
  const [left, right] = [place(view.from), place(view.to)];
  small.fillStyle = colors.accent; small.globalAlpha = 0.22;
  small.fillRect(left, 0, Math.max(2, right - left), tall);
  small.globalAlpha = 1; small.strokeStyle = colors.accent; small.lineWidth = 1.5;
  small.strokeRect(left, 0.75, Math.max(2, right - left), tall - 1.5);
};
