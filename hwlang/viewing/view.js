// Views of the workers, what happens in a pass, and the page as a whole.

const CHUNK = 1500; // characters of a text that are laid out together

// --- Views ----------------------------------------------------------------------------------------------------------

class View { // one worker's blocks, or all there are
  constructor(worker) {
    this.worker = worker;
    this.blocks = worker < 0 ? blocks.map((_, block) => block) : views[worker];
    this.title = make("h2", "");
    this.body = make("div", "blocks");
    this.body.tabIndex = 0;
    this.parts = this.blocks.map((block) => this.makePart(block));
    this.node = make("article", `view ${hue(worker)}`, "", this.title, this.body);
  }

  makePart(block) {
    const [, sort, , , owner] = blocks[block];
    const mine = this.worker >= 0 && block === own[this.worker];
    const what = mine ? "writes here" : sort === "worker" ? "another worker's" : sort;
    const part = { came: make("span", "came"), size: make("span", "size"), text: make("div", "text") };
    const name = make("span", "name", titleOf(block));
    const kind = make("span", "kind", titleOf(block) === what || this.worker < 0 && sort === "worker" ? "" : what);
    const head = make("div", "block-head", "", name, kind, part.came, part.size);
    part.node = make("section", `block ${hue(owner)} ${mine ? "mine" : ""} ${sort}`, "", head, part.text);
    this.body.append(part.node);
    return part;
  }

  show(cells, rows) {
    const low = this.body.scrollHeight - this.body.scrollTop - this.body.clientHeight < 40; // stay at the end
    let start = 0;
    this.blocks.forEach((block, index) => {
      const cell = cells[block], part = this.parts[index];
      const next = rows.find((row) => row[0] === this.worker && row[4] && block === own[this.worker])?.[4] ?? "";
      showCell(part, cell, this.worker < 0 ? -1 : start, next);
      start += cell.tokens;
    });
    const whose = this.worker < 0 ? "The whole cache:" : `${writers[this.worker]} sees`;
    this.title.textContent = `${whose} ${count(start, "token")} in ${count(this.blocks.length, "block")}`;
    if (low) this.body.scrollTop = this.body.scrollHeight;
  }
}

function showCell(part, cell, start, next) {
  const { text, tokens, came, gone } = cell;
  part.came.textContent = [
    gone === null ? "" : gone < 0 ? "cleared" : `→ ${titleOf(gone)}`, came ? `+${came}` : "",
  ].filter(Boolean).join(" ");
  const at = start < 0 ? "" : tokens > 1 ? ` at ${start}–${start + tokens - 1}` : ` at ${start}`;
  part.size.textContent = tokens ? `${count(tokens, "token")}${at}` : "empty";
  part.node.classList.toggle("empty", !text && !next);
  showText(part.text, text, cell.fresh, next);
}

function showText(node, text, fresh, next) { // in chunks of whole lines: only those that have changed are laid out again
  let index = 0;
  for (let from = 0; from < text.length || index === 0; index++) {
    const line = text.indexOf("\n", from + CHUNK), to = line < 0 ? text.length : line + 1;
    const chunk = node.children[index] ?? node.appendChild(make("div", "chunk"));
    const old = text.slice(from, Math.max(from, Math.min(to, fresh))), now = text.slice(Math.max(from, fresh), to);
    if (chunk.old !== old || chunk.now !== now) {
      Object.assign(chunk, { old, now });
      chunk.replaceChildren(old, ...(now ? [make("mark", /^\n+$/.test(now) ? "break" : "", now)] : []));
    }
    chunk.toggleAttribute("data-next", false);
    from = to;
  }
  while (node.children.length > index) node.lastChild.remove();
  if (next) node.lastChild.dataset.next = quoted(next); // drawn, but not in the cache yet: style shows it
}

// --- What happens in a pass -----------------------------------------------------------------------------------------

const quote = (text) => make("q", "", clip(quoted(text), 400));

function told(writer, kind, ...what) {
  const sign = kind ? icon(kind) : make("span", "dot");
  const name = writer < 0 ? [] : [make("b", "", writers[writer])];
  return make("li", hue(writer), "", sign, make("span", "", "", ...name, ...what));
}

function rowLine([writer, block, text, , drew]) {
  const draws = drew ? [" draws ", quote(drew)] : [];
  if (block < 0) return drew === undefined ? told(writer, "", " is asked ", quote(text)) : told(writer, "", ...draws);
  const where = block === own[writer] ? " writes " : ` writes into ${titleOf(block)} `;
  return told(writer, "", where, quote(text), drew ? "," : "", ...draws);
}

function changeLine([from, to]) {
  const what = to < 0 ? " is cleared" : ` is moved into ${titleOf(to)}`, owner = own.indexOf(from);
  return told(owner, to < 0 ? "clear" : "move", owner < 0 ? titleOf(from) : "", what);
}

function stepLine([writer, , , text, , number]) {
  return told(writer, "", ` ends step ${number}: `, quote(text));
}

function markLine(mark) {
  const { what, text } = markText(mark);
  return told(mark[1], mark[2], ` ${what} `, ...(text ? [quote(text)] : []));
}

function section(title, lines) {
  return lines.length ? [make("h3", "", title), make("ul", "lines", "", ...lines)] : [];
}

function showNow() {
  const at = state.position, [, , changes, rows, said] = passes[at - 1] ?? [0, 0, [], [], []];
  const ended = steps.filter(([, , last, , whole]) => last === at && whole), here = marks.filter((mark) => mark[0] === at);
  const handed = said.filter(([writer, text]) => !here.some((mark) => mark[1] === writer && mark[3] === text));
  const came = [...ended.map(stepLine), ...handed.map(([writer, text]) => told(writer, "", " is handed ", quote(text)))];
  byId("now-title").textContent = at ? `In ${nameOf(at)}` : "Before the first pass";
  byId("now").replaceChildren(
    ...section("First", changes.map(changeLine)),
    ...section("Written to the cache", rows.map(rowLine)),
    ...section("Then", [...came, ...here.map(markLine)]),
  );
  if (!byId("now").children.length) byId("now").append(make("p", "quiet", "The cache holds what workers see from the start."));
}

// --- The state of the page ------------------------------------------------------------------------------------------

const ALL = workers, CACHE = workers + 1; // besides a worker's number: what is shown
const state = { position: end, shown: workers === 2 && innerWidth >= 1100 ? ALL : 0, due: 0, playing: 0, noted: 0 };
let panels = [];

function choose(shown) {
  state.shown = shown;
  const chosen = shown === ALL ? views.map((_, worker) => worker) : [shown === CACHE ? -1 : shown];
  panels = chosen.map((worker) => new View(worker));
  byId("views").replaceChildren(...panels.map((panel) => panel.node));
  [...byId("tabs").children].forEach((tab, index) => tab.setAttribute("aria-pressed", index === shown));
  [...byId("gutter").querySelectorAll("button")].forEach((tab, index) =>
    tab.setAttribute("aria-pressed", shown === ALL || index === shown));
  show();
  for (const { body } of panels) body.scrollTop = body.scrollHeight;
}

function go(position) {
  state.position = Math.min(end, Math.max(0, position));
  state.due ||= requestAnimationFrame(show);
}

function show() {
  state.due = 0;
  const at = state.position, cells = cellsAt(at), rows = passes[at - 1]?.[3] ?? [];
  for (const panel of panels) panel.show(cells, rows);
  follow();
  placeHead();
  showNow();
  const of = at ? ` of ${about.length.toLocaleString("en")}` : "", seconds = at ? `${passes[at - 1][1].toFixed(2)} s` : "";
  const where = [`${nameOf(at)}${of}`, seconds, `${count(total(at), "token")} cached`].filter(Boolean).join(" · ");
  byId("where").textContent = where[0].toUpperCase() + where.slice(1);
  byId("slider").value = at;
  byId("slider").setAttribute("aria-valuetext", `${where}. ${[...byId("now").querySelectorAll("li")].slice(0, 6)
    .map((line) => clip(line.textContent, 60)).join(". ")}`);
  if (document.activeElement === canvas && canvas.matches(":focus-visible")) tipAtHead();
  clearTimeout(state.noted);
  state.noted = setTimeout(note, 250); // browsers allow only so many changes of the address
}

function note() {
  const shown = state.shown === ALL ? "view=all" : state.shown === CACHE ? "view=cache" :
    `worker=${encodeURIComponent(writers[state.shown])}`;
  history.replaceState(null, "", `#pass=${state.position}&${shown}`);
}

function takeAddress() { // #pass=120&worker=Bob
  const given = new URLSearchParams(location.hash.slice(1));
  const worker = writers.slice(0, workers).indexOf(given.get("worker"));
  const view = ["all", "cache"].indexOf(given.get("view")), shown = view < 0 ? worker : ALL + view;
  if (given.has("pass")) state.position = Math.min(end, Math.max(0, Math.trunc(Number(given.get("pass"))) || 0));
  choose(shown < 0 ? state.shown : shown);
}

function jump(places, step) { // to the next place, or the one before
  const found = step > 0 ? places.find((at) => at > state.position) : places.findLast((at) => at < state.position);
  if (found !== undefined) go(found);
}

function play(on = !state.playing) {
  clearInterval(state.playing);
  state.playing = 0;
  byId("play").textContent = on ? "Stop" : "Play";
  if (!on) return;
  if (state.position === end) go(0);
  const step = Math.max(1, Math.round(end / 600));
  state.playing = setInterval(() => (state.position < end ? go(state.position + step) : play(false)), 60);
}

function press(event) {
  const typed = event.key, far = event.shiftKey ? 10 : 1, on = document.activeElement;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typed === " " && on.closest("button, summary")) return;
  if (on.closest(".blocks") && /^(Home|End| )$/.test(typed)) return;
  const mine = stopsOf[state.shown] && state.shown < workers ? stopsOf[state.shown] : stops;
  const deeds = { __proto__: null,
    ArrowLeft: () => go(state.position - far), ArrowRight: () => go(state.position + far),
    Home: () => go(0), End: () => go(end), n: () => jump(stops, 1), p: () => jump(stops, -1),
    "]": () => jump(mine, 1), "[": () => jump(mine, -1), " ": () => play(), 0: () => choose(ALL), c: () => choose(CACHE),
    "+": () => rezoom(1.6), "=": () => rezoom(1.6), "-": () => rezoom(1 / 1.6), Escape: () => showTip([], 0, 0),
  };
  const deed = /^[1-9]$/.test(typed) && typed <= workers ? () => choose(typed - 1) : deeds[typed];
  if (!deed) return;
  event.preventDefault();
  if (typed.startsWith("Arrow") || typed === "Home" || typed === "End") play(false);
  deed();
}

// --- Building the page ----------------------------------------------------------------------------------------------

function fill(id, text, wanted = text) { // a part that unfolds
  byId(id).hidden = !wanted;
  byId(id).querySelector("pre").textContent = text;
}

function buildHead() {
  const chips = [["model", about.model], ["seed", about.seed], ["passes", about.length.toLocaleString("en")],
    ["ended", about.reason], ["run", about.runs > 1 ? `${about.run} of 0–${about.runs - 1}` : null]];
  document.title = `${about.program}: a run of ${count(about.length, "pass", "passes")}`;
  byId("program").textContent = about.program;
  byId("chips").append(...chips.filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => make("li", "", `${name} `, make("b", "", `${value}`))));
  byId("badge").hidden = !about.badge;
  byId("badge").textContent = about.badge;
  fill("answer", about.answer ?? "");
  byId("answer").querySelector("span").textContent = clip((about.answer ?? "").trim().replace(/\s+/g, " "), 300);
  fill("source", about.source);
  byId("inputs").hidden = !Object.keys(about.inputs).length;
  byId("inputs").querySelector("dl").append(...Object.entries(about.inputs)
    .flatMap(([name, value]) => [make("dt", "", name), make("dd", "", `${value}`)]));
}

function buildTimeline() {
  byId("gutter").append(...writers.map((name, writer) => {
    const label = make(writer < workers ? "button" : "div", `lane ${hue(writer)}`, "", make("span", "dot"), make("span", "", name));
    label.title = name;
    if (writer < workers) label.onclick = () => choose(writer);
    return label;
  }));
  const size = make("b", "", most.toLocaleString("en"));
  byId("gutter").append(make("div", "chart-label", "", make("span", "", "tokens in the cache, up to "), size));
  canvas.setAttribute("aria-label", `${count(workers, "worker")} over ${count(about.length, "pass", "passes")}: `
    + `${count(steps.length, "step")}, ${count(marks.length, "event")}. The arrow keys go from pass to pass.`);
  const found = KINDS.filter((kind) => marks.some((mark) => mark[2] === kind));
  byId("legend").append(...found.map((kind) => make("li", "", "", icon(kind), MEANINGS[kind])),
    ...["constant", "pad"].map((name) => make("li", "", "", make("span", `swatch ${name}`),
      { constant: "constants", pad: "scratchpads, streams" }[name])));
}

function buildTabs() {
  const names = [...writers.slice(0, workers), "Side by side", "Whole cache"];
  byId("tabs").append(...names.map((name, index) => {
    const tab = make("button", index < workers ? hue(index) : "", "", ...(index < workers ? [make("span", "dot")] : []), name);
    tab.onclick = () => choose(index);
    return tab;
  }));
}

function listen() {
  const on = (id, deed) => (byId(id).onclick = deed);
  for (const id of Object.keys(BUTTONS)) byId(id).append(icon(id, BUTTONS[id]));
  on("less", () => go(state.position - 1)), on("more", () => go(state.position + 1));
  on("back", () => jump(stops, -1)), on("next", () => jump(stops, 1)), on("play", () => play());
  on("in", () => rezoom(1.6)), on("out", () => rezoom(1 / 1.6)), on("fit", () => rezoom(0));
  byId("slider").max = end;
  byId("slider").oninput = (event) => go(Number(event.target.value));
  canvas.onpointermove = hover;
  canvas.onpointerleave = canvas.onblur = () => showTip([], 0, 0);
  canvas.onfocus = () => canvas.matches(":focus-visible") && tipAtHead();
  canvas.onpointerdown = (event) => {
    const { position, lane } = point(event);
    canvas.setPointerCapture(event.pointerId);
    if (lane >= 0 && lane < workers && state.shown < workers) choose(lane);
    go(position);
  };
  scroll.onscroll = draw;
  scroll.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    rezoom(event.deltaY < 0 ? 1.25 : 0.8, point(event).position);
  }, { passive: false });
  document.addEventListener("keydown", press);
  addEventListener("hashchange", takeAddress);
  matchMedia("(prefers-color-scheme: dark)").onchange = () => rezoom(1);
  new ResizeObserver(() => rezoom(1)).observe(scroll);
}

keep();
most = largest();
buildHead();
buildTimeline();
buildTabs();
listen();
measure();
takeAddress();
draw();
document.documentElement.dataset.ready = "yes"; // for tests: all of this went well
