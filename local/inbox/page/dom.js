// Elements, and values as a person reads them. Text from traces reaches the page through text nodes
// alone, never as HTML; the page's policy has the browser refuse anything else.

export const byId = (id) => document.getElementById(id);

// An element with these properties and children; `null`, `undefined` and `false` are left out.
export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.flat().filter((child) => child || child === 0));
  return node;
}

export const span = (className, text) => make("span", { className, textContent: text ?? "" });

const LONG = 6000; // characters of a text that are shown at once
const COLOURED = 20000;

export function button(label, onClick, properties = {}) {
  const node = make("button", { type: "button", textContent: label, ...properties });
  node.addEventListener("click", onClick);
  return node;
}

// Copies what `read` gives and says so for a moment.
export function copyButton(label, read) {
  return button("Copy", async ({ currentTarget: node }) => {
    try {
      await navigator.clipboard.writeText(await read());
      node.textContent = "Copied";
    } catch {
      node.textContent = "Not allowed";
    }
    setTimeout(() => { node.textContent = "Copy"; }, 1200);
  }, { className: "copy", ariaLabel: label });
}

// A part that is folded; what is in it is made when it is first opened. Its key lets a page that
// is drawn again open it again.
export function fold(key, summary, content, className = "") {
  const node = make("details", { className }, make("summary", {}, summary));
  node.dataset.key = key;
  node.addEventListener("toggle", () => {
    if (node.open && node.childElementCount === 1) node.append(...[content()].flat());
  });
  return node;
}

export function text(value, className = "text", paint = (part) => [part]) {
  const node = make("div", { className, dir: "auto" });
  if (value.length <= LONG * 1.2) {
    node.append(...paint(value));
    return node;
  }
  const rest = button(`Show all ${count(value.length)} characters`, () => {
    node.replaceChildren(value);
  }, { className: "more" });
  node.append(value.slice(0, LONG), "… ", rest);
  return node;
}

export const isObject = (value) =>
  value !== null && typeof value === "object" && !Array.isArray(value);
export const filled = (value) => isObject(value) && Object.keys(value).length > 0;

// JSON in a text becomes the object or list that it is; any other text stays.
export function parsed(value) {
  if (typeof value !== "string" || !/^\s*[[{]/.test(value)) return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b/g;

function painted(json) {
  if (json.length > COLOURED) return [json];
  const nodes = [];
  let end = 0;
  for (const found of json.matchAll(TOKENS)) {
    nodes.push(json.slice(end, found.index));
    const kind = found[2] !== undefined ? "name" : found[1] !== undefined ? "string" : "value";
    nodes.push(span(kind, found[0]));
    end = found.index + found[0].length;
  }
  return [...nodes, json.slice(end)].filter((node) => node !== "");
}

const WIDE = 72;

// JSON with what is short in one line.
function pretty(value, indent) {
  const line = JSON.stringify(value);
  if (value === null || typeof value !== "object" || line.length + indent.length <= WIDE) {
    return line.length <= WIDE ? line.replaceAll(/("(?:[^"\\]|\\.)*")|[,:]/g, (found, string) => string ?? `${found} `) : line;
  }
  const inner = `${indent}  `;
  const items = Array.isArray(value) ? value.map((item) => pretty(item, inner))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${pretty(item, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open}\n${inner}${items.join(`,\n${inner}`)}\n${indent}${close}`;
}

function written(value) {
  if (typeof value === "string") return value;
  const plain = JSON.stringify(value, null, 2) ?? "";
  return plain.length > COLOURED ? plain : pretty(value, "");
}

export function json(value) {
  return make("pre", { tabIndex: 0, ariaLabel: "JSON" }, text(written(value), "json", painted));
}

// What a person reads of a text that may be JSON.
export function textOrJson(value) {
  const content = parsed(value);
  return typeof content === "string" ? text(content) : json(content);
}

// Names and values; what is small stands in its line.
export function definitions(values) {
  return make("dl", { className: "definitions" }, ...Object.entries(values).flatMap(
    ([name, value]) => {
      const plain = value === null || typeof value !== "object";
      const short = plain || JSON.stringify(value).length < 60;
      return [
        make("dt", { textContent: name }),
        make("dd", {}, plain ? text(String(value)) : listed(value) ?? (short ? text(pretty(value, "")) : json(value))),
      ];
    },
  ));
}

function listed(value) {
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) return null;
  return make("ul", {}, ...value.map((item) => make("li", {}, text(item))));
}

export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60000)} min ${Math.round((ms % 60000) / 1000)} s`;
}

export const count = (number) => Number(number).toLocaleString("en");
export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

export function bytes(number) {
  if (number < 1024) return `${number} bytes`;
  if (number < 1024 ** 2) return `${(number / 1024).toFixed(1)} KB`;
  return `${(number / 1024 ** 2).toFixed(1)} MB`;
}

export function clock(ms) {
  if (!ms) return "";
  const date = new Date(ms);
  const time = date.toLocaleTimeString("en-GB");
  const today = date.toDateString() === new Date().toDateString();
  return today ? time : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time}`;
}

const WORDS = { __proto__: null, ERROR: "Error", WARNING: "Warning", DEFAULT: "Default", DEBUG: "Debug" };
export const levelWord = (level) => WORDS[level] ?? String(level);
