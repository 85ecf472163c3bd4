// The list of traces. An update changes only the rows of changed traces, so that scroll position,
// selection and focus are kept.

import { byId, clock, count, duration, levelName, make, span } from "./dom.js";

const MAX_ENTRIES = 500;

// The summary, link and row of each trace, the newest first.
let entries = [];
const list = byId("rows");
const scroller = byId("list");
let selected = null;
let current = null; // the entry that Tab moves to

export const ids = () => entries.map((entry) => entry.shown.id);
export const size = () => entries.length;

function bar(shown) {
  const node = make("i", { className: shown.first === null ? "" : "streamed" });
  node.style.setProperty("--ms", shown.latency ?? 0);
  if (shown.first !== null) node.style.setProperty("--first", shown.first / (shown.latency || 1));
  return make("span", { className: "bar" }, node);
}

function cells(shown) {
  const title = (node, value) => Object.assign(node, { title: value ?? "" });
  const cell = (name, value) => title(span(name, value), value);
  const labelled = (name, label, value) => {
    const node = cell(`${name} number`, value);
    if (value) node.dataset.label = label;
    return node;
  };
  return [
    title(span("time", clock(shown.time)), shown.time ? new Date(shown.time).toString() : ""),
    cell("name", shown.name),
    make("span", { className: "pair" }, cell("model", shown.model), cell("provider", shown.provider)),
    make("span", { className: "pair who" }, cell("user", shown.user), cell("session", shown.session)),
    labelled("tokens", "tokens", shown.tokens ? count(shown.tokens) : ""),
    make("span", { className: "latency number" },
      span("", duration(shown.latency)), shown.latency ? bar(shown) : null),
    labelled("first", "first token", duration(shown.first)),
    make("span", { className: "level" }, span(`badge ${shown.level}`, levelName(shown.level))),
  ];
}

function accessibleName(shown) {
  const parts = [shown.name, shown.model, shown.provider, shown.user, shown.session,
    shown.tokens ? `${count(shown.tokens)} tokens` : "", duration(shown.latency),
    levelName(shown.level), clock(shown.time)];
  return parts.filter(Boolean).join(", ");
}

function fill(entry) {
  const { shown, link } = entry;
  link.replaceChildren(...cells(shown));
  link.className = shown.level;
  link.ariaLabel = accessibleName(shown);
  link.href = `?${new URLSearchParams({ trace: shown.id })}`;
}

function createEntry(shown, isFresh) {
  const link = make("a", { tabIndex: -1 });
  const row = make("li", { className: isFresh ? "fresh" : "" }, link);
  row.dataset.id = shown.id;
  row.addEventListener("animationend", () => { row.className = ""; });
  const entry = { shown, link, row };
  fill(entry);
  mark(entry);
  return entry;
}

function mark(entry) {
  if (entry.shown.id === selected) entry.link.setAttribute("aria-current", "true");
  else entry.link.removeAttribute("aria-current");
}

// Applies a response of the server: the whole list, or the changes of it.
export function update(reply) {
  const anchor = scroller.scrollTop > 0
    ? entries.find(({ row }) => row.offsetTop + row.offsetHeight > scroller.scrollTop) : null;
  const before = anchor?.row.offsetTop;
  const isFirst = entries.length === 0 && reply.whole;
  const known = new Map(entries.map((entry) => [entry.shown.id, entry]));
  const changedIds = new Set(reply.traces.map((shown) => shown.id));
  const goneIds = new Set(reply.gone);
  entries = entries.filter(({ shown: { id } }) =>
    changedIds.has(id) || (!reply.whole && !goneIds.has(id)));
  for (const shown of reply.traces) {
    const entry = known.get(shown.id);
    if (!entry) {
      entries.push(createEntry(shown, !isFirst && !reply.whole));
    } else if (JSON.stringify(entry.shown) !== JSON.stringify(shown)) {
      entry.shown = shown;
      fill(entry);
    }
  }
  entries.sort((a, b) => b.shown.number - a.shown.number);
  entries.length = Math.min(entries.length, MAX_ENTRIES);
  draw();
  if (anchor?.row.isConnected) scroller.scrollTop += anchor.row.offsetTop - before;
}

function draw() {
  const kept = new Set(entries.map((entry) => entry.row));
  for (const row of [...list.children]) if (!kept.has(row)) row.remove();
  let next = list.firstElementChild;
  for (const { row } of entries) {
    if (row === next) next = next.nextElementSibling;
    else list.insertBefore(row, next);
  }
  const longest = Math.max(1, ...entries.map(({ shown }) => shown.latency ?? 0));
  if (list.style.getPropertyValue("--longest") !== String(longest)) {
    list.style.setProperty("--longest", longest);
  }
  if (!entries.includes(current)) makeCurrent(entries.find(({ shown }) => shown.id === selected) ?? entries[0]);
}

function makeCurrent(entry) {
  if (current) current.link.tabIndex = -1;
  current = entry ?? null;
  if (current) current.link.tabIndex = 0;
}

// Marks the open trace; `id` is null for none.
export function select(id) {
  selected = id;
  entries.forEach(mark);
  const entry = entries.find(({ shown }) => shown.id === id);
  if (entry) makeCurrent(entry);
}

// Moves the focus to a row: `step` rows below the current one, or the row of `id`. Returns the id
// of the row's trace, null for an empty list.
export function focus({ step = 0, id = null }) {
  const from = Math.max(entries.indexOf(current), 0);
  // From outside of the list, the first step only moves the focus to the current row.
  const isIn = list.contains(document.activeElement) || selected !== null || !Number.isFinite(step);
  const to = id === null ? from + (isIn ? step : 0)
    : entries.findIndex(({ shown }) => shown.id === id);
  const entry = entries[Math.min(Math.max(to, 0), entries.length - 1)];
  if (!entry) return null;
  makeCurrent(entry);
  entry.link.focus();
  entry.link.scrollIntoView({ block: "nearest" });
  return entry.shown.id;
}

// Calls `open` with the id of a row that was activated by a click or by the keyboard.
export function onOpen(open) {
  list.addEventListener("click", (event) => {
    const row = event.target.closest("li");
    if (!row || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    open(row.dataset.id);
  });
  list.addEventListener("focusin", (event) => {
    const row = event.target.closest("li");
    makeCurrent(entries.find((entry) => entry.row === row) ?? current);
  });
}
