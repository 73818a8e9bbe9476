// The timeline: a lane for each writer with its steps and marks, and the cache below. It is drawn once for each size and
// zoom; what moves over it is an element of its own.

// --- Signs ----------------------------------------------------------------------------------------------------------

const ICONS = { // on a grid of 12 by 12; those in front win where several are at one place
  answer: "M6 0.5 7.6 4.2 11.6 4.6 8.6 7.2 9.5 11.2 6 9.1 2.5 11.2 3.4 7.2 0.4 4.6 4.4 4.2Z",
  end: "M2 2H10V10H2Z",
  sync: "M6 1.2A4.8 4.8 0 1 1 1.9 3.5L0.6 2.6 4.6 1 4.6 5.2 3.3 4.4A3.2 3.2 0 1 0 6 2.8Z",
  ask: "M6 0 12 6 6 12 0 6ZM6 3 3 6 6 9 9 6Z",
  feed: "M0 4.8H6V1.5L12 6 6 10.5V7.2H0Z",
  post: "M1 1H11V8H6L3 11V8H1Z",
  say: "M6 1A5 4.6 0 1 1 4 9.8L1 11 2.2 8.4A5 4.6 0 0 1 6 1Z",
  pause: "M2 1.5H5V10.5H2ZM7 1.5H10V10.5H7Z",
  resume: "M2.5 1 10.5 6 2.5 11Z",
  clear: "M2.4 1 6 4.6 9.6 1 11 2.4 7.4 6 11 9.6 9.6 11 6 7.4 2.4 11 1 9.6 4.6 6 1 2.4Z",
  move: "M5 0.5H7V6.5H10.5L6 11.5 1.5 6.5H5Z",
};
const BUTTONS = { // signs that are no marks
  back: "M1 1H3V5.4L10 1V11L3 6.6V11H1Z", less: "M9.5 1 1.5 6 9.5 11Z", more: "M2.5 1 10.5 6 2.5 11Z",
  next: "M11 1H9V5.4L2 1V11L9 6.6V11H11Z",
};
const MEANINGS = {
  answer: "the answer", end: "worker ends", sync: "sync prompt", ask: "question (ask)", feed: "fed from outside",
  post: "post to a scratchpad", say: "text said to it", pause: "pause", resume: "resume", clear: "clear",
  move: "move into a scratchpad",
};
const KINDS = Object.keys(ICONS);
const EDGE = 10; // half the width of the slider's thumb: its positions lie under those of the timeline
const LANE = 44, CHART = 80, AXIS = 20; // heights
const WIDEST = 44; // of a pass
const shapes = Object.fromEntries(KINDS.map((kind) => [kind, new Path2D(ICONS[kind])]));

function icon(kind, path = ICONS[kind]) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("aria-hidden", "true");
  shape.setAttribute("d", path);
  shape.setAttribute("fill-rule", "evenodd");
  svg.append(shape);
  return svg;
}

// --- The timeline ---------------------------------------------------------------------------------------------------

const canvas = byId("canvas"), pen = canvas.getContext("2d"), scroll = byId("scroll");
const height = writers.length * LANE + CHART + AXIS;
let zoom = 1, width = 0, scale = 1, ink = {}, most = 1; // `most`: tokens in the cache, at any position

function measure() { // sizes and colours, from the page
  const style = getComputedStyle(document.documentElement);
  const names = ["text", "muted", "line", "card", "constant", "pad", "other", ...Array(COLOURS).keys()];
  ink = Object.fromEntries(names.map((name) => [`${name}`, style.getPropertyValue(
    typeof name === "number" ? `--w${name}` : `--${name}`).trim()]));
  width = scroll.clientWidth;
  const fit = (width - 2 * EDGE) / (end || 1);
  zoom = Math.min(Math.max(zoom, 1), Math.max(1, WIDEST / fit));
  scale = fit * zoom;
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  byId("wide").style.width = `${2 * EDGE + end * scale}px`;
  byId("wide").style.height = canvas.style.height = `${height}px`;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
}

const colourOf = (writer) => (writer < workers ? ink[writer % COLOURS] : ink.other);
const xOf = (position) => EDGE + position * scale - scroll.scrollLeft; // the middle of its column
const positionAt = (x) => Math.min(end, Math.max(0, Math.round((x + scroll.scrollLeft - EDGE) / scale)));

function draw() {
  pen.clearRect(0, 0, width, height);
  const low = positionAt(0) - 1, high = positionAt(width) + 1;
  writers.forEach((_, writer) => drawLane(writer, low, high));
  drawChart();
  drawAxis(low, high);
}

function drawLane(writer, low, high) {
  const top = writer * LANE, seen = ([first, last]) => last >= low && first <= high;
  pen.fillStyle = ink.line;
  pen.fillRect(0, top + LANE - 1, width, 1);
  drawIdle(writer, top + LANE - 6.5);
  for (const step of lanes[writer].steps) if (seen(step.slice(1))) drawStep(step, top, colourOf(writer));
  pen.fillStyle = colourOf(writer);
  for (const [first, last] of spans[writer].filter(seen)) {
    const left = xOf(first - 0.5), right = xOf(last + 0.5);
    pen.fillRect(left + 0.5, top + LANE - 8, Math.max(0.6, right - left - 1), 3);
  }
  drawMarks(lanes[writer].marks.filter(([at]) => at >= low && at <= high), top, colourOf(writer));
}

function drawIdle(writer, y) { // a dotted line while a worker waits
  if (writer >= workers) return;
  const over = lanes[writer].marks.find((mark) => mark[2] === "end");
  const edges = [0.5, ...spans[writer].flatMap(([first, last]) => [first - 0.5, last + 0.5]), over ? 0 : end + 0.5];
  pen.strokeStyle = ink.muted;
  pen.setLineDash([1, 4]);
  pen.beginPath();
  for (let i = 0; i < edges.length; i += 2) {
    if (edges[i + 1] - edges[i] < 1) continue;
    pen.moveTo(Math.max(0, xOf(edges[i])), y);
    pen.lineTo(Math.min(width, xOf(edges[i + 1])), y);
  }
  pen.stroke();
  pen.setLineDash([]);
}

function drawStep([, first, last, text, ended, number], top, colour) {
  const left = xOf(first - 0.5) + 0.5, wide = Math.max(0.8, xOf(last + 0.5) - left - 0.5);
  pen.globalAlpha = ended ? 0.24 : 0.1;
  pen.fillStyle = colour;
  pen.beginPath();
  pen.roundRect(left, top + 15, wide, 20, wide > 8 ? 3 : 0);
  pen.fill();
  pen.globalAlpha = 1;
  const from = Math.max(left, 0) + 5, room = Math.min(left + wide, width) - from - 4;
  if (room < 12) return;
  pen.fillStyle = ink.text;
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const label = room > 70 ? `${number}  ${text.trim().replace(/\s+/g, " ")}` : `${number}`;
  pen.fillText(fitted(label, room), from, top + 25.5);
}

function fitted(text, room) {
  let short = text.slice(0, Math.ceil(room / 3));
  if (short === text && pen.measureText(text).width <= room) return text;
  while (short && pen.measureText(`${short}…`).width > room) short = short.slice(0, -Math.ceil(short.length / 12));
  return short ? `${short}…` : "";
}

function drawMarks(found, top, colour) { // as many as there is room for, the important ones first
  const taken = [];
  const ranked = found.map((mark) => [KINDS.indexOf(mark[2]), xOf(mark[0]), mark]).sort((a, b) => a[0] - b[0]);
  pen.fillStyle = colour;
  for (const [, x, [, , kind]] of ranked) {
    const place = Math.round(x / 13);
    if (taken[place - 1] || taken[place] || taken[place + 1]) continue;
    taken[place] = true;
    pen.save();
    pen.translate(Math.min(Math.max(x, 6), width - 6) - 5.5, top + 3);
    pen.scale(11 / 12, 11 / 12);
    pen.fill(shapes[kind], "evenodd");
    pen.restore();
  }
}

function drawChart() { // tokens in the cache, one layer on another
  const top = writers.length * LANE + 8, bottom = writers.length * LANE + CHART - 1;
  const base = new Float64Array(Math.ceil(width) + 1);
  const colours = [ink.constant, ink.pad, ...views.map((_, writer) => colourOf(writer))];
  const first = Math.max(0, Math.floor(xOf(0))), last = Math.min(width, Math.ceil(xOf(end)) + 1);
  sums.forEach((layer, index) => {
    pen.fillStyle = colours[index];
    pen.globalAlpha = index < 2 ? 1 : 0.75;
    for (let x = first; x < last; x++) {
      const high = (layer[positionAt(x)] / most) * (bottom - top);
      pen.fillRect(x, bottom - base[x] - high, 1, high);
      base[x] += high;
    }
  });
  pen.globalAlpha = 1;
}

function drawAxis(low, high) {
  const top = height - AXIS;
  const gap = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((g) => g * scale >= 70) ?? 20000;
  pen.fillStyle = ink.line;
  pen.fillRect(0, top, width, 1);
  pen.fillStyle = ink.muted;
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "alphabetic";
  for (let at = Math.ceil(Math.max(low, 0) / gap) * gap; at <= Math.min(high, end); at += gap) {
    const label = at.toLocaleString("en"), half = pen.measureText(label).width / 2;
    pen.fillRect(xOf(at) - 0.5, top, 1, 4);
    pen.fillText(label, Math.min(Math.max(xOf(at) - half, 0), width - 2 * half), top + 15);
  }
}

function rezoom(factor, at = state.position) { // what is at the position stays where it is
  const x = Math.min(Math.max(xOf(at), 0), width);
  zoom = factor ? zoom * factor : 1;
  measure();
  scroll.scrollLeft = EDGE + at * scale - x;
  draw();
  placeHead();
}

function placeHead() {
  const line = byId("head-line"), wide = Math.max(2, scale);
  line.style.width = `${wide}px`;
  line.style.transform = `translateX(${EDGE + state.position * scale - wide / 2}px)`;
  line.classList.toggle("thin", scale < 5);
}

function follow() { // scroll to where the head is, if it is out of sight
  const x = xOf(state.position);
  if (x < EDGE || x > width - EDGE) scroll.scrollLeft += x - (x < EDGE ? width * 0.2 : width * 0.8);
}

// --- What is said of a place of the timeline ------------------------------------------------------------------------

function markText([, writer, kind, text, logits]) {
  const what = { move: `moves its block into ${text}`, clear: `clears ${text}`, pause: "is paused", resume: "is resumed",
    end: "ends", sync: "is given the sync prompt", post: "posts: ", ask: "is asked: ", feed: "is fed: ", say: "is told: ",
    answer: "gives the answer: " }[kind];
  const scores = logits ? ` (logits ${logits.join(", ")})` : "";
  return { who: writers[writer], what, text: ["move", "clear"].includes(kind) ? "" : quoted(text) + scores };
}

function tipLines(writer, position, reach) { // [title, text] each
  const near = lanes[writer].marks.filter((mark) => Math.abs(mark[0] - position) <= reach).slice(0, 8);
  const found = near.map((mark) => {
    const { who, what, text } = markText(mark);
    return [`${nameOf(mark[0])}: ${who} ${what}`, text];
  });
  const step = lanes[writer].steps.find(([, first, last]) => first <= position && position <= last);
  if (!step) return found;
  const [, first, last, text, ended, number] = step;
  const where = first === last ? `pass ${first}` : `passes ${first}–${last}`;
  return [...found, [`${writers[writer]}, step ${number}${ended ? "" : " (not ended)"}, ${where}`, text.trim()]];
}

function chartLines(position) {
  const names = ["constants", "scratchpads and streams", ...writers.slice(0, workers)];
  const parts = names.map((name, index) => `${name} ${sums[index][position].toLocaleString("en")}`);
  return [[`${nameOf(position)}: ${count(total(position), "token")} in the cache`, parts.join("\n")]];
}

function showTip(lines, x, y) {
  const tip = byId("tip");
  tip.hidden = !lines.length;
  tip.replaceChildren(...lines.flatMap(([title, text]) => [make("b", "", title), make("p", "", clip(text, 700))]));
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${y + 18 + box.height < innerHeight ? y + 18 : Math.max(8, y - box.height - 12)}px`;
}

function point(event) {
  const box = canvas.getBoundingClientRect();
  const position = positionAt(event.clientX - box.left), lane = Math.floor((event.clientY - box.top) / LANE);
  return { position, lane: lane < writers.length ? lane : -1 };
}

function hover(event) {
  const { position, lane } = point(event);
  if (event.buttons & 1) go(position);
  const lines = lane < 0 ? chartLines(position) : tipLines(lane, position, Math.floor(7 / scale));
  showTip(lines, event.clientX, event.clientY);
}

function tipAtHead() { // for those who have the timeline in focus, not under a mouse
  const box = canvas.getBoundingClientRect(), lane = state.shown < workers ? state.shown : 0;
  showTip(tipLines(lane, state.position, 0), box.left + xOf(state.position), box.top + lane * LANE + 24);
}
