// The page: asks the inbox for what has changed, as long as it takes for something to, and shows it.

import { button, byId, copyButton, make, plural } from "./dom.js";
import * as filters from "./filters.js";
import * as list from "./list.js";
import * as trace from "./trace.js";

const status = byId("status");
const none = byId("none");
const BURST = 80; // ms in which what comes together is asked for together
const AGAIN = 1000;

let since = null;
let asked = null;
let opened = null;

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// Nobody looks at a hidden page, and a browser holds but a few connections open.
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
    asked = new AbortController();
    const question = new URLSearchParams({ ...filters.wanted(), ...(since && { since }) });
    try {
      const reply = await fetch(`/api/inbox?${question}`, { signal: asked.signal });
      if (!reply.ok) throw new Error(await reply.text());
      const content = await reply.json();
      since = content.revision;
      show(content);
      await pause(BURST);
    } catch (error) {
      if (error.name === "AbortError") continue;
      say("trouble", `The inbox does not answer (${error.message}). Trying again…`);
      await pause(AGAIN);
    }
  }
}

function restart() {
  since = null;
  asked?.abort();
}

function say(state, words) {
  status.className = state;
  if (status.textContent !== words) status.textContent = words;
}

function show(reply) {
  list.update(reply);
  filters.offer(reply);
  if (opened && (reply.whole || [...reply.traces.map(({ id }) => id), ...reply.gone].includes(opened))) {
    trace.load(opened);
  }
  const isFiltered = Object.keys(filters.wanted()).length > 0;
  const shown = reply.matching > list.size() ? `, the newest ${list.size()} shown` : "";
  const all = plural(reply.total, "trace");
  say("live", `Live, ${isFiltered ? `${reply.matching} of ${all}` : all}${shown}`);
  status.title = `Plays Langfuse ${reply.version}`;
  showNone(reply, isFiltered);
}

function showNone(reply, isFiltered) {
  byId("columns").hidden = reply.matching === 0;
  const was = none.dataset.is;
  const is = reply.matching > 0 ? "" : reply.total > 0 && isFiltered ? "filtered" : `empty ${reply.example ?? ""}`;
  if (was === is) return;
  none.dataset.is = is;
  none.hidden = is === "";
  if (is === "filtered") {
    none.replaceChildren(
      make("h2", { textContent: "No trace matches" }),
      button("Clear filters", () => filters.clear()),
    );
  } else if (is) {
    none.replaceChildren(
      make("h2", { textContent: "No traces yet" }),
      make("p", { textContent: "Send a request through the gateway. Its trace shows up here as soon as the answer is there." }),
      ...(reply.example ? [make("div", { className: "example" },
        make("pre", { textContent: reply.example, tabIndex: 0 }),
        copyButton("Copy the command", () => reply.example))] : []),
    );
  }
}

function address() {
  const query = new URLSearchParams(filters.wanted());
  if (opened) query.set("trace", opened);
  return query.size ? `?${query}` : location.pathname;
}

// Opens a trace, null closes the one that is open. A first one is a step that "back" undoes.
function open(id, { isStep = true } = {}) {
  const before = opened;
  opened = id;
  document.body.classList.toggle("open", id !== null);
  list.select(id);
  if (isStep) history[before === null && id !== null ? "pushState" : "replaceState"](null, "", address());
  if (id === null) {
    trace.close();
    if (before !== null) list.focus({ id: before });
  } else {
    trace.load(id);
    // Where the list gives way to the trace, so does its focus.
    if (getComputedStyle(byId("list")).display === "none") byId("trace").focus();
  }
}

function move(step) {
  const id = list.focus({ step });
  if (opened !== null && id !== null && id !== opened) open(id);
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
    else if (opened !== null) open(null);
    return;
  }
  // An arrow scrolls what it is pressed in, and moves in the list anywhere else.
  const isArrow = event.key.length > 1;
  const isElsewhere = isArrow && event.target.closest?.("#trace");
  const isDown = event.target.id === "text" && event.key === "ArrowDown"; // from the search to what it found
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
document.addEventListener("visibilitychange", () => { if (document.hidden) asked?.abort(); });
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
