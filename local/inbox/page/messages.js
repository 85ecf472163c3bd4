// Inputs and outputs as conversations, whichever endpoint they are of.

import { copyButton, count, fold, isObject, json, make, plural, span, text, textOrJson } from "./dom.js";
import { call, called, content, media, more, part, refusal, rest, result, sources, thinking } from "./parts.js";

// So many messages are shown at once; of a longer conversation the first and the last.
const MANY = 24;

const isTokens = (value) => Array.isArray(value) && value.length > 0
  && value.every((item) => typeof item === "number");

// The messages of an input or output, and what stands beside them, such as tools.
function split(value) {
  if (isObject(value) && !("role" in value)) {
    const main = ["messages", "prompt", "input"].find((name) => name in value && value[name] !== null);
    if (main && typeof value.type !== "string") {
      return { items: split(value[main]).items, beside: rest(value, main) };
    }
  }
  if (isTokens(value)) return { items: [value], beside: {} };
  return { items: Array.isArray(value) ? value : [value], beside: {} };
}

// The names of the tools by the ids of their calls, so that each result finds its own.
export function toolNames(...values) {
  const names = new Map();
  const note = (item) => {
    if (!isObject(item)) return;
    const { id, name } = called(item);
    if (id && name && (item.function || item.name)) names.set(id, name);
  };
  for (const { items } of values.map(split)) {
    for (const item of items.filter(isObject)) {
      note(item);
      for (const inner of [item.tool_calls, item.content]) {
        if (Array.isArray(inner)) inner.forEach(note);
      }
    }
  }
  return names;
}

const SPEAKERS = {
  __proto__: null,
  system: "System", developer: "Developer", user: "User", assistant: "Assistant",
  tool: "Tool", function: "Function",
};

function frame(role, label, nodes, value) {
  const copied = () => {
    const said = isObject(value) ? value.content : value;
    return typeof said === "string" ? said : JSON.stringify(value, null, 2);
  };
  const known = Object.hasOwn(SPEAKERS, role);
  return make("div", { className: `message ${known ? role : "other"}` },
    make("div", { className: "role" }, span("", label)),
    make("div", { className: "said" }, ...nodes),
    copyButton("Copy the message", copied));
}

// Who speaks in an item that is no message, such as those of the Responses API.
function speaker(item) {
  if (item.type === "function_call_output" || item.type === "custom_tool_call_output"
    || item.type === "tool_result") return "tool";
  return typeof item.type === "string" && item.type !== "error" ? "assistant" : "";
}

function message(item, place, fallback) {
  if (isTokens(item)) {
    const nodes = [make("p", { textContent: plural(item.length, "token") }),
      fold(place.key(), "The tokens", () => json(JSON.stringify(item)), "small")];
    return frame("", fallback, nodes, item);
  }
  if (!isObject(item)) {
    const nodes = typeof item === "string" ? [text(item)] : [json(item)];
    return frame(fallback === "Output" ? "assistant" : "user", fallback, nodes, item);
  }
  if (!("role" in item)) {
    const names = Object.keys(item);
    if (names.length === 2 && "dimensions" in item && "count" in item) {
      const said = `${plural(item.count, "vector")} of ${count(item.dimensions)} dimensions`;
      return frame("", fallback, [make("p", { textContent: said })], item);
    }
    const role = speaker(item);
    return frame(role, SPEAKERS[role] ?? fallback, part(item, place), item);
  }
  const role = String(item.role);
  const label = SPEAKERS[role] ?? role;
  if (role === "tool" || role === "function") return frame(role, label, [result(item, place)], item);
  return frame(role, item.name ? `${label} ${item.name}` : label, spoken(item, place), item);
}

function spoken(item, place) {
  const list = (value) => (Array.isArray(value) ? value : value ? [value] : []);
  const thoughts = ["thinking", "redacted_thinking", "reasoning_content", "reasoning"];
  const names = [...thoughts, "role", "name", "content", "refusal", "tool_calls", "function_call",
    "annotations", "citations", "search_results", "output_audio"];
  const others = rest(item, ...names, ...(item.type === "message" ? ["type"] : []));
  const nodes = [
    ...thoughts.flatMap((name) => list(item[name])).map((value) => thinking(value, place)),
    ...content(item.content, place),
    item.refusal ? refusal(String(item.refusal)) : null,
    ...list(item.tool_calls).map((value) => (isObject(value) ? call(value, place) : textOrJson(value))),
    ...(item.function_call ? part({ type: "function_call", ...item.function_call }, place) : []),
    item.output_audio ? media("Audio", item.output_audio) ?? json(item.output_audio) : null,
    sources(item.annotations, "Annotations", place),
    sources(item.citations, "Citations", place),
    sources(item.search_results, "Search results", place),
    more(others),
  ].filter(Boolean);
  return nodes.length > 0 ? nodes : [span("quiet", "Nothing")];
}

function toolList(tools, place) {
  const name = (tool) => tool?.function?.name ?? tool?.name ?? tool?.type ?? "a tool";
  const label = make("span", {}, `${plural(tools.length, "tool")} `, span("quiet", tools.map(name).join(", ")));
  return fold(place.key(), label, () => tools.map((tool) => {
    const inner = isObject(tool?.function) ? tool.function : tool;
    const described = isObject(inner) && typeof inner.description === "string";
    const others = isObject(inner) ? rest(inner, "name", "description", "type") : inner;
    return make("div", { className: "tool" }, span("mono name", String(name(tool))),
      described ? text(inner.description) : null,
      isObject(others) && Object.keys(others).length === 0 ? null : json(others));
  }), "tools");
}

function beside(values, place) {
  const { tools, functions, ...others } = values;
  return [
    ...[tools, functions].map((list) => (Array.isArray(list) && list.length ? toolList(list, place) : null)),
    more(rest(others)),
  ].filter(Boolean);
}

// An input or an output. `label` names what no role does; `place` is as for `part`.
export function conversation(value, label, place) {
  const { items, beside: others } = split(value);
  const named = (index) => (items.length > 1 ? `${label} ${index + 1}` : label);
  const one = (item, index) => message(item, place, named(index));
  const nodes = [...beside(others, place)];
  if (items.length <= MANY) return [...nodes, ...items.map(one)];
  const last = items.length - MANY + 2;
  return [
    ...nodes,
    ...items.slice(0, 2).map(one),
    fold(place.key(), `${count(last - 2)} messages in between`,
      () => items.slice(2, last).map((item, index) => one(item, index + 2)), "between"),
    ...items.slice(last).map((item, index) => one(item, index + last)),
  ];
}
