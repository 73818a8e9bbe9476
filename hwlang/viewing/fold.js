// The page of a recorded run: this file, timeline.js and view.js, one behind the other. The facts (see facts.py) are folded
// pass by pass into what was in the cache. Text of the run is only ever set as text.

const EVERY = 64; // positions between two kept states of the cache
const COLOURS = 6;

const byId = (id) => document.getElementById(id);
const facts = JSON.parse(byId("facts").textContent);
const { about, writers, workers, views, blocks, passes, steps, marks } = facts;
const end = passes.length;
const own = views.map((view) => view.at(-1));

function make(tag, name = "", text = "", ...children) {
  const node = document.createElement(tag);
  node.className = name;
  if (text) node.textContent = text;
  node.append(...children);
  return node;
}

const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const clip = (text, length) => (text.length > length ? `${text.slice(0, length)}…` : text);
const quoted = (text) => (text.trim() ? text : text.replaceAll(" ", "␣")).replaceAll("\n", "↵");
const titleOf = (block) => (blocks[block][1] === "constant" ? "constant" : blocks[block][0]);
const hue = (writer) => (writer < 0 || writer >= workers ? "other" : `w${writer % COLOURS}`);

function nameOf(position) { // passes after the run's end have the number of the last one before it
  if (position === 0) return "before the first pass";
  const [number, , , rows] = passes[position - 1];
  if (position > number) return rows.length ? `after the end, pass ${position - number}` : "after the end";
  return `pass ${number.toLocaleString("en")}`;
}

// --- What was in the cache ------------------------------------------------------------------------------------------

class Cell { // a block at some position: from `fresh` on it was written in that pass; `gone`: where it was moved then
  constructor(text, tokens) {
    Object.assign(this, { text, tokens, fresh: text.length, came: 0, gone: null });
  }
  copy() {
    return new Cell(this.text, this.tokens);
  }
  add(text, tokens) {
    this.text += text;
    this.tokens += tokens;
    this.came += tokens;
  }
}

function advance(cells, [, , changes, rows]) { // as `caches` of hwruntime.recording does
  cells.forEach((cell, block) => (cells[block] = cell.copy()));
  for (const [from, to] of changes) {
    const { text, tokens } = cells[from];
    cells[from] = new Cell("", 0);
    cells[from].gone = to;
    if (to >= 0) cells[to].add(text, tokens);
  }
  for (const [, block, text, tokens] of rows) if (block >= 0) cells[block].add(text, tokens);
}

const kept = []; // the cells at every position that is a multiple of EVERY
const sums = Array.from({ length: workers + 2 }, () => new Int32Array(end + 1)); // tokens: constants, pads, each worker's

function keep() {
  const cells = blocks.map(([, , text, tokens]) => new Cell(text, tokens));
  for (let at = 0; at <= end; at++) {
    if (at) advance(cells, passes[at - 1]);
    if (at % EVERY === 0) kept.push(cells.map((cell) => cell.copy()));
    cells.forEach(({ tokens }, block) => (sums[group(block)][at] += tokens));
  }
}

function group(block) {
  if (blocks[block][1] === "constant") return 0;
  return blocks[block][1] === "worker" ? 2 + blocks[block][4] : 1;
}

const total = (at) => sums.reduce((sum, one) => sum + one[at], 0);
const largest = () => sums[0].reduce((most, _, at) => Math.max(most, total(at)), 1);

function cellsAt(position) {
  const start = Math.floor(Math.max(0, position - 1) / EVERY); // at the position itself it would not say what is fresh
  const cells = kept[start].slice();
  for (let at = start * EVERY; at < position; at++) advance(cells, passes[at]);
  return cells;
}

// --- Where a writer was at work -------------------------------------------------------------------------------------

function spansOf(writer) { // of positions: [first, last] each
  const spans = [];
  passes.forEach(([, , , rows], index) => {
    const wrote = ([who, block, , , drew]) =>
      who === writer && (writer >= workers || block === own[writer] || drew !== undefined);
    if (!rows.some(wrote)) return;
    const last = spans.at(-1);
    if (last && last[1] === index) last[1]++;
    else spans.push([index + 1, index + 1]);
  });
  return spans;
}

const spans = writers.map((_, writer) => spansOf(writer));
steps.forEach((step, index) => step.push(index && steps[index - 1][0] === step[0] ? steps[index - 1].at(-1) + 1 : 1));
const lanes = writers.map((_, writer) => ({
  steps: steps.filter((step) => step[0] === writer),
  marks: marks.filter((mark) => mark[1] === writer),
}));
const stops = [...new Set([...marks.map((mark) => mark[0]), ...steps.filter((s) => s[4]).map((s) => s[2])])]
  .sort((a, b) => a - b);
const stopsOf = lanes.map((lane) => [...lane.marks.map((mark) => mark[0]), ...lane.steps.map((step) => step[2])]
  .sort((a, b) => a - b));
