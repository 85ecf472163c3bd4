// Inputs and outputs of all endpoints as conversations.

import { isConversation, problem, tableProblem } from "./chatml.js";
import { copyButton, count, fold, isObject, json, make, plural, span, text, textOrJson } from "./dom.js";
import { call, callFields, content, media, otherFields, part, refusal, rest, result, sources, thinking } from "./parts.js";

// The number of messages that are shown. Of a longer conversation, those in between are folded.
const MAX_SHOWN = 24;

const isTokens = (value) => Array.isArray(value) && value.length > 0
  && value.every((item) => typeof item === "number");

// The messages of an input or output, and its other members, such as tools.
function split(value) {
  if (isObject(value) && !("role" in value)) {
    const main = ["messages", "prompt", "input"].find((name) => name in value && value[name] !== null);
    if (main && typeof value.type !== "string") {
      return { items: split(value[main]).items, otherMembers: rest(value, main) };
    }
  }
  if (isTokens(value)) return { items: [value], otherMembers: {} };
  return { items: Array.isArray(value) ? value : [value], otherMembers: {} };
}

// The names of the tools by the ids of their calls, to label each result with its tool.
export function toolNames(...values) {
  const names = new Map();
  const addName = (item) => {
    if (!isObject(item)) return;
    const { id, name } = callFields(item);
    if (id && name && (item.function || item.name)) names.set(id, name);
  };
  for (const { items } of values.map(split)) {
    for (const item of items.filter(isObject)) {
      addName(item);
      for (const inner of [item.tool_calls, item.content]) {
        if (Array.isArray(inner)) inner.forEach(addName);
      }
    }
  }
  return names;
}

const ROLES = {
  __proto__: null,
  system: "System", developer: "Developer", user: "User", assistant: "Assistant",
  tool: "Tool", function: "Function",
};

function frame(role, label, nodes, value) {
  const textToCopy = () => {
    const inner = isObject(value) ? value.content : value;
    return typeof inner === "string" ? inner : JSON.stringify(value, null, 2);
  };
  const isKnown = Object.hasOwn(ROLES, role);
  return make("div", { className: `message ${isKnown ? role : "other"}` },
    make("div", { className: "role" }, span("", label)),
    make("div", { className: "content" }, ...nodes),
    copyButton("Copy the message", textToCopy));
}

// The role of an item that is not a message, such as those of the Responses API.
function roleOf(item) {
  if (item.type === "function_call_output" || item.type === "custom_tool_call_output"
    || item.type === "tool_result") return "tool";
  return typeof item.type === "string" && item.type !== "error" ? "assistant" : "";
}

function message(item, context, fallback) {
  if (isTokens(item)) {
    const nodes = [make("p", { textContent: plural(item.length, "token") }),
      fold(context.key(), "The tokens", () => json(JSON.stringify(item)), "small")];
    return frame("", fallback, nodes, item);
  }
  if (!isObject(item)) {
    const nodes = typeof item === "string" ? [text(item)] : [json(item)];
    return frame(fallback === "Output" ? "assistant" : "user", fallback, nodes, item);
  }
  if (!("role" in item)) {
    const names = Object.keys(item);
    if (names.length === 2 && "dimensions" in item && "count" in item) {
      const summary = `${plural(item.count, "vector")} of ${count(item.dimensions)} dimensions`;
      return frame("", fallback, [make("p", { textContent: summary })], item);
    }
    const role = roleOf(item);
    return frame(role, ROLES[role] ?? fallback, [...tableNote(item), ...part(item, context)], item);
  }
  const role = String(item.role);
  const label = ROLES[role] ?? role;
  if (role === "tool" || role === "function") return frame(role, label, [result(item, context)], item);
  const nodes = [...tableNote(item), ...messageNodes(item, context)];
  return frame(role, item.name ? `${label} ${item.name}` : label, nodes, item);
}

const asLangfuseShows = (what, why) =>
  make("p", { className: "langfuse", textContent: `Langfuse shows ${what}: ${why}.` });

function tableNote(item) {
  const why = "role" in item || typeof item.type === "string" ? tableProblem(item) : null;
  return why ? [asLangfuseShows("this message as a table", why)] : [];
}

function messageNodes(item, context) {
  const list = (value) => (Array.isArray(value) ? value : value ? [value] : []);
  const thoughts = ["thinking", "redacted_thinking", "reasoning_content", "reasoning"];
  const names = [...thoughts, "role", "name", "content", "refusal", "tool_calls", "function_call",
    "annotations", "citations", "search_results", "output_audio"];
  const others = rest(item, ...names, ...(item.type === "message" ? ["type"] : []));
  const nodes = [
    ...thoughts.flatMap((name) => list(item[name])).map((value) => thinking(value, context)),
    ...content(item.content, context),
    item.refusal ? refusal(String(item.refusal)) : null,
    ...list(item.tool_calls).map((value) => (isObject(value) ? call(value, context) : textOrJson(value))),
    ...(item.function_call ? part({ type: "function_call", ...item.function_call }, context) : []),
    item.output_audio ? media("Audio", item.output_audio) ?? json(item.output_audio) : null,
    sources(item.annotations, "Annotations", context),
    sources(item.citations, "Citations", context),
    sources(item.search_results, "Search results", context),
    otherFields(others),
  ].filter(Boolean);
  return nodes.length > 0 ? nodes : [span("quiet", "Nothing")];
}

function toolList(tools, context) {
  const name = (tool) => tool?.function?.name ?? tool?.name ?? tool?.type ?? "a tool";
  const label = make("span", {}, `${plural(tools.length, "tool")} `, span("quiet", tools.map(name).join(", ")));
  return fold(context.key(), label, () => tools.map((tool) => {
    const inner = isObject(tool?.function) ? tool.function : tool;
    const described = isObject(inner) && typeof inner.description === "string";
    const others = isObject(inner) ? rest(inner, "name", "description", "type") : inner;
    return make("div", { className: "tool" }, span("mono name", String(name(tool))),
      described ? text(inner.description) : null,
      isObject(others) && Object.keys(others).length === 0 ? null : json(others));
  }), "tools");
}

function memberNodes(values, context) {
  const { tools, functions, ...others } = values;
  return [
    ...[tools, functions].map((list) => (Array.isArray(list) && list.length ? toolList(list, context) : null)),
    otherFields(rest(others)),
  ].filter(Boolean);
}

// The nodes of the input and of the output of an observation, each null where there is none. Where
// Langfuse shows one as JSON, so does the page, and says why. `context` is described at `newContext`
// in trace.js.
export function inputAndOutput(input, output, context) {
  const inputProblem = problem(input, "input");
  const outputProblem = problem(output, "output") ?? (inputProblem && "the input is no list of messages");
  const shown = (value, label, why) => {
    if (value === null || value === undefined) return null;
    const nodes = () => conversation(value, label, context);
    if (!why || !isConversation(value)) return nodes();
    return [asLangfuseShows(`the ${label.toLowerCase()} as JSON`, why), json(value),
      fold(context.key(), "As messages", nodes, "messages")];
  };
  return [shown(input, "Input", inputProblem), shown(output, "Output", outputProblem)];
}

// The nodes of an input or an output. `label` is the label of items without a role.
function conversation(value, label, context) {
  const { items, otherMembers } = split(value);
  const labelOf = (index) => (items.length > 1 ? `${label} ${index + 1}` : label);
  const one = (item, index) => message(item, context, labelOf(index));
  const nodes = [...memberNodes(otherMembers, context)];
  if (items.length <= MAX_SHOWN) return [...nodes, ...items.map(one)];
  const last = items.length - MAX_SHOWN + 2;
  return [
    ...nodes,
    ...items.slice(0, 2).map(one),
    fold(context.key(), `${count(last - 2)} messages in between`,
      () => items.slice(2, last).map((item, index) => one(item, index + 2)), "between"),
    ...items.slice(last).map((item, index) => one(item, index + last)),
  ];
}
