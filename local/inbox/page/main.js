// The page: it requests changes from the inbox by long polling and shows them.

import { button, byId, copyButton, make, plural } from "./dom.js";
import * as filters from "./filters.js";
import * as list from "./list.js";
import * as trace from "./trace.js";

const status = byId("status");
const emptyState = byId("none");
const BURST_MS = 80; // the pause after a response, so that the next one has several changes
const RETRY_MS = 1000; // the pause before a failed request is repeated

let since = null;
let controller = null;
let openId = null;

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// Waits until the page is visible. A browser allows only a few open connections to one server, so
// a hidden page has none.
async function visible() {
  while (document.hidden) {
    await new Promise((resolve) => {
      document.addEventListener("visibilitychange", resolve, { once: true });
    });
  }
}

async function follow() {
  for (;;) {
    await visible();
    controller = new AbortController();
    const query = new URLSearchParams({ ...filters.activeFilters(), ...(since && { since }) });
    try {
      const reply = await fetch(`/api/inbox?${query}`, { signal: controller.signal });
      if (!reply.ok) throw new Error(await reply.text());
      const content = await reply.json();
      since = content.revision;
      show(content);
      await pause(BURST_MS);
    } catch (error) {
      if (error.name === "AbortError") continue;
      setStatus("trouble", `The inbox does not answer (${error.message}). Trying again…`);
      await pause(RETRY_MS);
    }
  }
}

function restart() {
  since = null;
  controller?.abort();
}

function setStatus(state, text) {
  status.className = state;
  if (status.textContent !== text) status.textContent = text;
}

function show(reply) {
  list.update(reply);
  filters.updateOptions(reply);
  if (openId && (reply.whole || [...reply.traces.map(({ id }) => id), ...reply.gone].includes(openId))) {
    trace.load(openId);
  }
  const isFiltered = Object.keys(filters.activeFilters()).length > 0;
  const shown = reply.matching > list.size() ? `, the newest ${list.size()} shown` : "";
  const all = plural(reply.total, "trace");
  setStatus("live", `Live, ${isFiltered ? `${reply.matching} of ${all}` : all}${shown}`);
  status.title = `Plays Langfuse ${reply.version}`;
  showEmptyState(reply, isFiltered);
}

function showEmptyState(reply, isFiltered) {
  byId("columns").hidden = reply.matching === 0;
  const was = emptyState.dataset.is;
  const is = reply.matching > 0 ? "" : reply.total > 0 && isFiltered ? "filtered" : `empty ${reply.example ?? ""}`;
  if (was === is) return;
  emptyState.dataset.is = is;
  emptyState.hidden = is === "";
  if (is === "filtered") {
    emptyState.replaceChildren(
      make("h2", { textContent: "No trace matches" }),
      button("Clear filters", () => filters.clear()),
    );
  } else if (is) {
    emptyState.replaceChildren(
      make("h2", { textContent: "No traces yet" }),
      make("p", { textContent: "Send a request through the gateway. Its trace shows up here as soon as the answer is there." }),
      ...(reply.example ? [make("div", { className: "example" },
        make("pre", { textContent: reply.example, tabIndex: 0 }),
        copyButton("Copy the command", () => reply.example))] : []),
    );
  }
}

function address() {
  const query = new URLSearchParams(filters.activeFilters());
  if (openId) query.set("trace", openId);
  return query.size ? `?${query}` : location.pathname;
}

// Opens a trace; null closes the open one. Only the first one adds an entry to the history.
function open(id, { isStep = true } = {}) {
  const before = openId;
  openId = id;
  document.body.classList.toggle("open", id !== null);
  list.select(id);
  if (isStep) history[before === null && id !== null ? "pushState" : "replaceState"](null, "", address());
  if (id === null) {
    trace.close();
    if (before !== null) list.focus({ id: before });
  } else {
    trace.load(id);
    // On a narrow screen the trace replaces the list, which then loses the focus.
    if (getComputedStyle(byId("list")).display === "none") byId("trace").focus();
  }
}

function move(step) {
  const id = list.focus({ step });
  if (openId !== null && id !== null && id !== openId) open(id);
}

const isWriting = (node) => node.matches?.("input, select, textarea");
const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  Home: () => move(-Infinity),
  End: () => move(Infinity),
  "/": () => byId("text").select(),
  x: () => filters.clear(),
  "?": () => byId("keys").showModal(),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  if (event.key === "Escape") {
    if (isWriting(event.target)) event.target.blur();
    else if (openId !== null) open(null);
    return;
  }
  // In the trace panel these keys scroll; anywhere else they move in the list.
  const isArrow = event.key.length > 1;
  const isElsewhere = isArrow && event.target.closest?.("#trace");
  const isDown = event.target.id === "text" && event.key === "ArrowDown"; // from the search field to the list
  if ((isWriting(event.target) && !isDown) || isElsewhere || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

function readAddress() {
  const query = new URLSearchParams(location.search);
  filters.read(query);
  open(query.get("trace"), { isStep: false });
}

byId("help").addEventListener("click", () => byId("keys").showModal());
document.addEventListener("visibilitychange", () => { if (document.hidden) controller?.abort(); });
addEventListener("popstate", () => { readAddress(); restart(); });
list.onOpen((id) => open(id));
trace.onClose(() => open(null));
filters.onChange(() => {
  byId("list").scrollTop = 0;
  history.replaceState(null, "", address());
  restart();
});
readAddress();
follow();
