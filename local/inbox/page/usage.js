// The token counts by part, and their costs.

import { count, make, span } from "./dom.js";

const NAMES = {
  __proto__: null,
  input: "Input", input_cached_tokens: "Input from the cache", input_cache_creation: "Input written to the cache",
  input_cache_creation_5m: "Input written to the cache for 5 minutes",
  input_cache_creation_1h: "Input written to the cache for an hour",
  input_audio_tokens: "Audio input", input_image_tokens: "Image input", input_video_tokens: "Video input",
  input_text_tokens: "Text input", output_text_tokens: "Text output",
  output: "Output", output_reasoning_tokens: "Reasoning", output_audio_tokens: "Audio output",
  output_image_tokens: "Image output", total: "Total",
};

const named = (name) => NAMES[name] ?? name.replaceAll("_", " ");
const dollars = (value) => (typeof value === "number"
  ? `$${value.toLocaleString("en", { maximumSignificantDigits: 4, maximumFractionDigits: 8 })}` : JSON.stringify(value));

// A bar with the share of each part in the total.
function shares(parts) {
  const sum = parts.reduce((all, [, value]) => all + value, 0);
  const nodes = parts.filter(([, value]) => value > 0).map(([name, value]) => {
    const node = make("i", { className: name, title: `${named(name)}: ${count(value)}` });
    node.style.flexGrow = value / sum;
    return node;
  });
  return sum > 0 ? make("div", { className: "shares", ariaHidden: "true" }, ...nodes) : null;
}

// `thoughts` is how many of the output tokens were thoughts, which cost what other output costs.
export function usage(counts, costs, thoughts) {
  const names = [...new Set([...Object.keys(counts), ...Object.keys(costs)])];
  if (names.length === 0) return [];
  const rank = (name) => (name === "total" ? 2 : name.startsWith("output") ? 1 : 0);
  names.sort((a, b) => rank(a) - rank(b));
  const isPriced = Object.keys(costs).length > 0;
  const row = (label, tokens, price, className = "") => make("tr", { className },
    make("th", { scope: "row" }, ...label),
    make("td", { className: "number", textContent: tokens }),
    isPriced ? make("td", { className: "number", textContent: price }) : null);
  const rows = names.map((name) => row([span(`dot ${name}`), named(name)],
    Object.hasOwn(counts, name) ? count(counts[name]) : "",
    Object.hasOwn(costs, name) ? dollars(costs[name]) : "",
    name === "total" ? "total" : ""));
  if (Number.isInteger(thoughts) && thoughts > 0) {
    const output = names.findLastIndex((name) => ["output", "output_text_tokens"].includes(name));
    rows.splice(output + 1 || rows.length, 0, row(["of which thinking"], count(thoughts), "", "part"));
  }
  const head = make("tr", {}, make("th", { scope: "col", textContent: "Part" }),
    make("th", { scope: "col", className: "number", textContent: "Tokens" }),
    isPriced ? make("th", { scope: "col", className: "number", textContent: "Cost" }) : null);
  return [
    shares(names.filter((name) => name !== "total" && Object.hasOwn(counts, name)).map((name) => [name, counts[name]])),
    make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)),
  ].filter(Boolean);
}

// The total cost of these observations, "" where none has a cost.
export function cost(observations) {
  const totals = observations.map(({ cost: costs }) => {
    if (typeof costs.total === "number") return costs.total;
    const parts = Object.values(costs).filter((value) => typeof value === "number");
    return parts.length ? parts.reduce((sum, value) => sum + value, 0) : null;
  }).filter((value) => value !== null);
  return totals.length ? dollars(totals.reduce((sum, value) => sum + value, 0)) : "";
}
