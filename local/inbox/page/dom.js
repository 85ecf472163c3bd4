// Elements, and values as readable text. Text from traces becomes text nodes only, never HTML. The
// page's content security policy makes the browser refuse anything else.

export const byId = (id) => document.getElementById(id);

// An element with these properties and children. Empty children (null, undefined, false, "") are
// left out.
export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.flat().filter((child) => child || child === 0));
  return node;
}

export const span = (className, text) => make("span", { className, textContent: text ?? "" });

const MAX_SHOWN = 6000; // characters of a text that are shown first
const MAX_HIGHLIGHTED = 20000; // characters of JSON up to which it is highlighted

export function button(label, onClick, properties = {}) {
  const node = make("button", { type: "button", textContent: label, ...properties });
  node.addEventListener("click", onClick);
  return node;
}

// A button that copies what `read` returns, and briefly confirms it.
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

// A closed fold, whose content is created when it is first opened. By its key it can be opened again
// after the page was drawn again.
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
  if (value.length <= MAX_SHOWN * 1.2) {
    node.append(...paint(value));
    return node;
  }
  const rest = button(`Show all ${count(value.length)} characters`, () => {
    node.replaceChildren(value);
  }, { className: "more" });
  node.append(value.slice(0, MAX_SHOWN), "… ", rest);
  return node;
}

export const isObject = (value) =>
  value !== null && typeof value === "object" && !Array.isArray(value);
export const filled = (value) => isObject(value) && Object.keys(value).length > 0;

// The object or list of a JSON text; any other value unchanged.
export function parsed(value) {
  if (typeof value !== "string" || !/^\s*[[{]/.test(value)) return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b/g;

function highlighted(json) {
  if (json.length > MAX_HIGHLIGHTED) return [json];
  const nodes = [];
  let end = 0;
  for (const match of json.matchAll(TOKENS)) {
    nodes.push(json.slice(end, match.index));
    const kind = match[2] !== undefined ? "name" : match[1] !== undefined ? "string" : "value";
    nodes.push(span(kind, match[0]));
    end = match.index + match[0].length;
  }
  return [...nodes, json.slice(end)].filter((node) => node !== "");
}

const MAX_LINE = 72; // characters of a line

// JSON with short objects and lists in one line.
function pretty(value, indent) {
  const line = JSON.stringify(value);
  if (value === null || typeof value !== "object" || line.length + indent.length <= MAX_LINE) {
    return line.length <= MAX_LINE ? line.replaceAll(/("(?:[^"\\]|\\.)*")|[,:]/g, (match, string) => string ?? `${match} `) : line;
  }
  const inner = `${indent}  `;
  const items = Array.isArray(value) ? value.map((item) => pretty(item, inner))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${pretty(item, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open}\n${inner}${items.join(`,\n${inner}`)}\n${indent}${close}`;
}

function formatted(value) {
  if (typeof value === "string") return value;
  const plain = JSON.stringify(value, null, 2) ?? "";
  return plain.length > MAX_HIGHLIGHTED ? plain : pretty(value, "");
}

export function json(value) {
  return make("pre", { tabIndex: 0, ariaLabel: "JSON" }, text(formatted(value), "json", highlighted));
}

// A text, formatted if it is JSON.
export function textOrJson(value) {
  const content = parsed(value);
  return typeof content === "string" ? text(content) : json(content);
}

// A list of names and values. Short JSON values are in one line.
export function definitions(values) {
  return make("dl", { className: "definitions" }, ...Object.entries(values).flatMap(
    ([name, value]) => {
      const plain = value === null || typeof value !== "object";
      const short = plain || JSON.stringify(value).length < 60;
      return [
        make("dt", { textContent: name }),
        make("dd", {}, plain ? text(String(value)) : bulletList(value) ?? (short ? text(pretty(value, "")) : json(value))),
      ];
    },
  ));
}

function bulletList(value) {
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

const LEVEL_NAMES = { __proto__: null, ERROR: "Error", WARNING: "Warning", DEFAULT: "Default", DEBUG: "Debug" };
export const levelName = (level) => LEVEL_NAMES[level] ?? String(level);
