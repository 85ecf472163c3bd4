// The parts of a message: text, thinking, tool calls, results, media, sources. They have OpenAI's
// format, Anthropic's, or that of another tracer.

import { bytes, count, definitions, filled, fold, isObject, json, make, parsed, span, text, textOrJson } from "./dom.js";

// An object without the members of these names, and without empty ones.
export function rest(object, ...names) {
  const isKept = ([name, value]) => !names.includes(name) && value !== null && value !== undefined
    && !(Array.isArray(value) && value.length === 0);
  return Object.fromEntries(Object.entries(object).filter(isKept));
}

// The members that nothing else on the page shows.
export const otherFields = (object) =>
  filled(object) ? make("div", { className: "beside" }, definitions(object)) : null;

const TEXTS = ["text", "input_text", "output_text", "summary_text"];
const THOUGHTS = ["thinking", "reasoning", "reasoning_text", "redacted_thinking"];
const CALLS = ["tool_use", "function", "function_call", "custom_tool_call"];
const MEDIA = {
  __proto__: null,
  image: "Image", image_url: "Image", input_image: "Image", image_generation_call: "Image",
  input_audio: "Audio", audio: "Audio", output_audio: "Audio", document: "Document", file: "File", input_file: "File",
  video: "Video", video_url: "Video",
};

// The nodes of one part. `context` is described at `newContext` in trace.js.
export function part(value, context) {
  if (typeof value === "string") return [textOrJson(value)];
  if (!isObject(value)) return value === null || value === undefined ? [] : [json(value)];
  const { type } = value;
  if (typeof value.text === "string" && (type === undefined || TEXTS.includes(type))) {
    // Langfuse renders inline media only as a text. It may be followed by a name or a title.
    const kind = RECORDED.exec(value.text)?.[1].split("/")[0];
    if (kind) return [media(MEDIA[kind] ?? "File", rest(value, "type"))];
    return [text(value.text), sources(value.citations, "Citations", context),
      sources(value.annotations, "Annotations", context),
      otherFields(rest(value, "type", "text", "citations", "annotations", "logprobs"))];
  }
  if (THOUGHTS.includes(type)) return [thinking(value, context)];
  if (type === "refusal" && typeof value.refusal === "string") return [refusal(value.refusal)];
  if (MEDIA[type]) return [media(MEDIA[type], value) ?? json(value)];
  if (type === "tool_result" || type?.endsWith?.("_result") || type?.endsWith?.("_output")) {
    return [result(value, context)];
  }
  if (CALLS.includes(type) || type?.endsWith?.("_tool_use") || type?.endsWith?.("_call")) {
    return [call(value, context)];
  }
  return [json(value)];
}

export function content(value, context) {
  if (value === null || value === undefined || value === "") return [];
  const parts = Array.isArray(value) ? value : [value];
  return parts.flatMap((item) => part(item, context));
}

// The text of a thinking part, in any of its formats.
function thinkingText(value) {
  const inner = value.thinking ?? value.content ?? value.text ?? value.summary ?? value.reasoning;
  if (typeof inner === "string") return inner;
  if (!Array.isArray(inner)) return "";
  return inner.map((item) => (typeof item === "string" ? item : item?.text ?? "")).join("\n\n");
}

export function thinking(value, context) {
  const words = typeof value === "string" ? value : thinkingText(value);
  const others = typeof value === "string" ? {}
    : rest(value, "type", "thinking", "content", "text", "summary", "reasoning");
  const label = words ? make("span", {}, "Thinking ", span("quiet", `${count(words.length)} characters`))
    : "Thinking, hidden by the provider";
  return fold(context.key(), label, () => [words ? text(words) : null, otherFields(others)].filter(Boolean), "thinking");
}

export const refusal = (value) =>
  make("div", { className: "refusal" }, span("tag", "Refusal"), text(value));

// The name, id and arguments of a tool call, in any of its formats.
export function callFields(value) {
  const inner = isObject(value.function) ? value.function : value;
  const name = inner.name ?? value.name ?? String(value.type ?? "tool").replace(/_call$|_use$/, "");
  const input = inner.arguments ?? inner.input ?? inner.action;
  return { name, id: value.call_id ?? value.tool_call_id ?? value.id, input };
}

export function call(value, context) {
  const { name, id, input } = callFields(value);
  const args = parsed(input);
  const isEmpty = args === undefined || args === null || args === ""
    || (typeof args === "object" && Object.keys(args).length === 0);
  const others = isObject(value.function)
    ? { ...rest(value, "type", "id", "function", "index"), ...rest(value.function, "name", "arguments") }
    : rest(value, "type", "id", "call_id", "name", "arguments", "input", "action");
  return make("div", { className: "call" },
    make("div", { className: "head" }, span("tag", "Calls"), span("mono name", String(name)), span("id", id ? String(id) : "")),
    isEmpty ? null : typeof args === "string" ? text(args, "text mono") : json(args),
    otherFields(others));
}

// The result of a tool, with the tool's name where its call is present.
export function result(value, context) {
  const id = value.tool_call_id ?? value.tool_use_id ?? value.call_id;
  const name = context.tools.get(id) ?? value.name;
  const output = value.content ?? value.output;
  const others = rest(value, "role", "type", "tool_call_id", "tool_use_id", "call_id", "id", "name", "content", "output", "is_error");
  const pages = Array.isArray(output) && output.length > 0 && output.every((item) => item?.url);
  return make("div", { className: value.is_error ? "call result failed" : "call result" },
    make("div", { className: "head" }, span("tag", value.is_error ? "Failed" : "Returned"),
      span("mono name", name ? String(name) : ""), span("id", id ? String(id) : "")),
    pages ? sources(output, "Results", context, true) : content(output, context),
    otherFields(others));
}

// Inline media are recorded by type and size alone, media on the web by their URL, which this page
// never requests.
const RECORDED = /^\[([\w.+/-]+), (\d+) bytes\]$/;
const INLINE = /^data:([\w.+/-]*)[^,]{0,200},/;

export function media(label, value) {
  const found = [];
  const search = (inner, depth) => {
    if (typeof inner === "string") {
      const recorded = RECORDED.exec(inner);
      const inline = recorded ? null : INLINE.exec(inner);
      if (recorded) found.push([recorded[1], bytes(Number(recorded[2]))]);
      else if (inline) found.push([inline[1], bytes(Math.floor((inner.length - inline[0].length) * 0.75))]);
      else if (/^https?:\/\//.test(inner)) found.push([inner]);
    } else if (isObject(inner) && depth < 4) {
      Object.values(inner).forEach((item) => search(item, depth + 1));
    }
  };
  search(value, 0);
  const source = isObject(value.source) ? value.source : {};
  const plain = source.type === "text" && typeof source.data === "string" ? source.data : null;
  if (found.length === 0 && plain === null) return null;
  const names = ["type", "source", "image_url", "input_audio", "file", "result", "data", "video_url", "file_data"];
  if (RECORDED.test(value.text)) names.push("text");
  const named = isObject(value.file) ? rest(value.file, "file_data") : {};
  const detail = isObject(value.image_url) ? rest(value.image_url, "url") : {};
  return make("div", { className: "media" },
    make("div", { className: "head" }, span("tag", label), ...found.map(([type, size]) =>
      make("span", {}, span("mono", type), size ? span("quiet", ` ${size}`) : ""))),
    plain === null ? null : text(plain),
    otherFields({ ...rest(value, ...names), ...named, ...detail }));
}

// The sources of an answer: their titles, URLs and quotations, and the whole list as JSON.
export function sources(list, label, context, isOpen = false) {
  if (!Array.isArray(list) || list.length === 0) return null;
  const lines = list.map((item) => {
    if (typeof item === "string") return make("li", {}, text(item));
    const inner = isObject(item?.url_citation) ? item.url_citation : item ?? {};
    const title = inner.title ?? inner.document_title ?? inner.filename;
    const quoted = inner.cited_text ?? inner.snippet;
    if (!title && !inner.url && !quoted) return make("li", {}, json(item));
    return make("li", {}, span("", title ? String(title) : ""), " ", span("quiet mono", inner.url ? String(inner.url) : ""),
      quoted ? make("blockquote", {}, text(String(quoted))) : null);
  });
  const all = fold(context.key(), "As JSON", () => json(list), "small");
  const shown = () => [make("ol", { className: "sources" }, ...lines), all];
  if (isOpen) return make("div", {}, ...shown());
  return fold(context.key(), `${label}, ${list.length}`, shown, "small");
}
