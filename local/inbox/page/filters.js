// The filters, which stand in the page's address, so that a reload or a shared link has them too.

import { byId, levelWord, make } from "./dom.js";

const NAMES = ["model", "level", "session"];
const field = byId("text");
const clearing = byId("clear");
const known = Object.fromEntries(NAMES.map((name) => [name, new Set()]));

// The filters that are set, by name.
export function wanted() {
  const pairs = [...NAMES.map((name) => [name, byId(name).value]), ["text", field.value.trim()]];
  return Object.fromEntries(pairs.filter(([, value]) => value));
}

function add(name, values) {
  const select = byId(name);
  for (const value of values) {
    if (known[name].has(value)) continue;
    known[name].add(value);
    const label = name === "level" ? levelWord(value) : value;
    const option = make("option", { value, textContent: label });
    const after = [...select.options].slice(1).find((other) => other.text.localeCompare(label, undefined, { numeric: true }) > 0);
    select.add(option, after ?? null);
  }
}

// Offers what there is to choose: models, levels and sessions of the traces that have come.
export function offer(reply) {
  for (const name of NAMES) {
    if (reply.whole) {
      const select = byId(name);
      const there = new Set([...reply[`${name}s`], select.value]);
      for (const option of [...select.options].slice(1)) {
        if (!there.has(option.value)) option.remove();
      }
      known[name] = new Set([...select.options].slice(1).map((option) => option.value));
    }
    add(name, reply[`${name}s`]);
  }
}

export function read(query) {
  for (const name of NAMES) {
    const value = query.get(name) ?? "";
    if (value) add(name, [value]);
    byId(name).value = value;
  }
  field.value = query.get("text") ?? "";
  clearing.hidden = Object.keys(wanted()).length === 0;
}

let timer;
let changed = () => {};

function tell(wait) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    clearing.hidden = Object.keys(wanted()).length === 0;
    changed();
  }, wait);
}

export function clear() {
  for (const name of [...NAMES, "text"]) byId(name).value = "";
  tell(0);
}

// Calls `listener` whenever the filters are others; a text that is being written, at a pause.
export function onChange(listener) {
  changed = listener;
  for (const name of NAMES) byId(name).addEventListener("change", () => tell(0));
  field.addEventListener("input", () => tell(150));
  clearing.addEventListener("click", clear);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
}
