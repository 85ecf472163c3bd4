// Which inputs and outputs Langfuse shows as messages, and which as JSON. The rules are those of
// version 4.16.0 (langfuse/langfuse, commit 6275144 of 2026-08-22):
// packages/shared/src/utils/IORepresentation/chatML/types.ts (the schema),
// packages/shared/src/utils/chatml/adapters (langgraph.ts, openai.ts and generic.ts, one of which
// converts a value first), web/src/features/traces/fns/chatMessageUtils.ts and
// web/src/components/ui/MarkdownJsonView.tsx (which messages become a table).

import { isObject } from "./dom.js";

const MEDIA_REFERENCE = /^@@@langfuseMedia:[^@|=]+=[^@|=]+(?:\|[^@|=]+=[^@|=]+)*@@@$/;
const IMAGE_URL = /^(?:https?:|data:image\/(?:png|jpeg|jpg|gif|webp);base64,)/;
const RESPONSES_OUTPUT = (value) => isObject(value) && Array.isArray(value.output);

const isText = (value) => typeof value === "string";
const isOptional = (check) => (value) => value === undefined || check(value);
const isReference = (value) => isText(value) && MEDIA_REFERENCE.test(value);

// A message is recognised by its role, unless it has `parts` as Gemini's do.
const areRoleMessages = (list) => list.every((message) => isObject(message)
  && ("role" in message ? isText(message.role) : "additional_kwargs" in message) && !Array.isArray(message.parts));

const isMessageWithCalls = ({ role, tool_calls: calls }) => isText(role) && Array.isArray(calls)
  && calls.every((call) => isText(call?.type) && isText(call?.function?.name));

const textOf = (value) => (isText(value) ? value : JSON.stringify(value ?? {}));

function flatCall(call) {
  if (!isObject(call.function)) return { ...call, arguments: textOf(call.arguments) };
  const { name, arguments: input } = call.function;
  return { id: call.id, name, arguments: textOf(input), type: call.type || "function", index: call.index };
}

function flatTool(tool) {
  const { name, description = "", parameters } = isObject(tool?.function) ? tool.function : tool ?? {};
  return { name, description: description ?? "", ...(parameters == null ? {} : { parameters }) };
}

// A message as its adapter converts it: without null members, and with flat tool calls. Where none
// recognises the message, it is checked as it is.
function converted(message, isKnown) {
  if (!isObject(message)) return {};
  if (!isKnown) return message;
  const known = Object.fromEntries(Object.entries(message).filter(([, value]) => value !== null));
  if (Array.isArray(known.tool_calls)) known.tool_calls = known.tool_calls.filter(isObject).map(flatCall);
  return known;
}

// The messages that Langfuse finds in a value, each converted; null where it finds none.
function messages(value, kind) {
  if (Array.isArray(value)) return value.map((item) => converted(item, areRoleMessages(value)));
  if (!isObject(value)) return null;
  if (Array.isArray(value.messages)) {
    const { tools, messages: list } = value;
    if (!Array.isArray(tools)) return list.map((item) => converted(item, tools === undefined || areRoleMessages(list)));
    return list.map((item) => ({ ...converted(item, true), tools: tools.map(flatTool) }));
  }
  if (RESPONSES_OUTPUT(value)) return value.output.map((item) => converted(item, true));
  return kind === "output" ? [converted(value, isMessageWithCalls(value))] : null;
}

const hasTexts = (...names) => (item) => isObject(item) && names.every((name) => isText(item[name]));
const isCall = (item) => hasTexts("id", "name", "arguments")(item) && isOptional(isText)(item.type)
  && isOptional((index) => typeof index === "number")(item.index);
const isTool = (item) => hasTexts("name")(item) && isOptional(isText)(item.description) && isOptional(isObject)(item.parameters);
const isThought = (item) => hasTexts("content")(item) && item.type === "thinking"
  && isOptional(isText)(item.signature) && isOptional(isText)(item.summary);
const isSealedThought = (item) => hasTexts("data")(item) && item.type === "redacted_thinking";
const isAudio = (value) => isReference(value?.data) && isOptional(isText)(value.transcript);

// For each member that Langfuse knows: the check of it, or of each of its items, and what is missing.
const MEMBERS = [
  ["role", isText, "is not a text"],
  ["name", isText, "is not a text"],
  ["tool_call_id", isText, "is not a text"],
  ["content", (value) => value === null || isText(value) || typeof value === "object", "is neither text nor parts"],
  ["audio", isAudio, "has no reference to Langfuse's media storage"],
  ["additional_kwargs", isObject, "is not an object"],
];
const LISTS = [
  ["tools", isTool, "has no name, or is no definition of a function"],
  ["tool_calls", isCall, "has no id, name or arguments"],
  ["thinking", isThought, "is not a thought"],
  ["redacted_thinking", isSealedThought, "is not a sealed thought"],
];

function memberProblem(message) {
  for (const [name, check, reason] of MEMBERS) {
    if (!isOptional(check)(message[name])) return `${name} ${reason}`;
  }
  for (const [name, check, reason] of LISTS) {
    if (message[name] === undefined) continue;
    if (!Array.isArray(message[name])) return `${name} is not a list`;
    const index = message[name].findIndex((item) => !check(item));
    if (index >= 0) return `${name} ${index + 1} ${reason}`;
  }
  return message.content === null && message.role === undefined ? "there is neither content nor role" : null;
}

// Why Langfuse shows an input or output (the `kind`) as JSON in place of messages; null where it
// shows messages.
export function problem(value, kind) {
  const list = messages(value, kind);
  if (!list?.length) return "there are no messages in it";
  for (const [index, message] of list.entries()) {
    const found = memberProblem(message);
    if (found) return list.length > 1 ? `message ${index + 1}: ${found}` : found;
  }
  return null;
}

function isPart(part) {
  if (isText(part)) return isReference(part);
  if (["text", "input_text", "output_text"].includes(part?.type)) return isText(part.text);
  if (part?.type === "image_url") {
    const { url, detail } = part.image_url ?? {};
    return isText(url) && (IMAGE_URL.test(url) || isReference(url)) && [undefined, "low", "high", "auto"].includes(detail);
  }
  return part?.type === "input_audio" && isReference(part.input_audio?.data);
}

// Why Langfuse shows a message as a table, in which its text is hard to find; null where it does not.
// The result of a tool may be any JSON, and a refusal is easy to find.
export function tableProblem(message) {
  const { role, content, tool_calls: calls, audio, thinking, redacted_thinking: sealed, name, type, tools, ...others } = message;
  if (role === "tool" || role === "function") return null;
  if (Array.isArray(content)) {
    const index = content.findIndex((part) => !isPart(part));
    return index < 0 ? null : `part ${index + 1} is neither a text nor an image with a URL`;
  }
  if (isObject(content)) return "its content is an object";
  const names = Object.keys(others).filter((member) => others[member] != null);
  if (content != null || calls != null || audio != null || names.length === 0) return null;
  if (thinking?.length || sealed?.length) return "its thinking is hidden, since it has other members but no content";
  return names.join() === "refusal" ? null : "it has no content and no tool calls";
}

// Whether a value was meant as messages, so that it is of interest why Langfuse does not show them.
export function isConversation(value) {
  if (Array.isArray(value)) return value.some((item) => isObject(item) && ("role" in item || isText(item.type)));
  return isObject(value) && ("role" in value || Array.isArray(value.messages) || RESPONSES_OUTPUT(value));
}
