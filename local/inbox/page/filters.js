// The filters. They are part of the page's URL, so that a reload or a shared link keeps them.

import { byId, levelName, make } from "./dom.js";

const NAMES = ["model", "level", "session"];
const field = byId("text");
const clearButton = byId("clear");
const offered = Object.fromEntries(NAMES.map((name) => [name, new Set()]));

// The values of the filters that are set, by name.
export function activeFilters() {
  const pairs = [...NAMES.map((name) => [name, byId(name).value]), ["text", field.value.trim()]];
  return Object.fromEntries(pairs.filter(([, value]) => value));
}

function addOptions(name, values) {
  const select = byId(name);
  for (const value of values) {
    if (offered[name].has(value)) continue;
    offered[name].add(value);
    const label = name === "level" ? levelName(value) : value;
    const option = make("option", { value, textContent: label });
    const after = [...select.options].slice(1).find((other) => other.text.localeCompare(label, undefined, { numeric: true }) > 0);
    select.add(option, after ?? null);
  }
}

// Updates the options of the filters: the models, levels and sessions of the received traces.
export function updateOptions(reply) {
  for (const name of NAMES) {
    if (reply.whole) {
      const select = byId(name);
      const available = new Set([...reply[`${name}s`], select.value]);
      for (const option of [...select.options].slice(1)) {
        if (!available.has(option.value)) option.remove();
      }
      offered[name] = new Set([...select.options].slice(1).map((option) => option.value));
    }
    addOptions(name, reply[`${name}s`]);
  }
}

export function read(query) {
  for (const name of NAMES) {
    const value = query.get(name) ?? "";
    if (value) addOptions(name, [value]);
    byId(name).value = value;
  }
  field.value = query.get("text") ?? "";
  clearButton.hidden = Object.keys(activeFilters()).length === 0;
}

let timer;
let changeListener = () => {};

function notify(wait) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    clearButton.hidden = Object.keys(activeFilters()).length === 0;
    changeListener();
  }, wait);
}

export function clear() {
  for (const name of [...NAMES, "text"]) byId(name).value = "";
  notify(0);
}

// Calls `listener` when the filters change. While a text is typed, only after a pause.
export function onChange(listener) {
  changeListener = listener;
  for (const name of NAMES) byId(name).addEventListener("change", () => notify(0));
  field.addEventListener("input", () => notify(150));
  clearButton.addEventListener("click", clear);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
}
