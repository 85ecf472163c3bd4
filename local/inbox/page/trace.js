// The panel with one trace: its head, its timeline, and its selected observation.

import { button, byId, clock, copyButton, count, definitions, duration, filled, fold, levelName, make, plural, span, text } from "./dom.js";
import { inputAndOutput, toolNames } from "./messages.js";
import { first, firstOfTrace, latency, nested, timeline } from "./timeline.js";
import { cost, usage } from "./usage.js";

const panel = byId("trace");
let closeListener = () => {};
let openId = null; // the id of the open trace
let shownText = null; // the text of the last response that was shown, to detect changes
let selectedId = null; // the id of the observation that the user selected
let requestCount = 0;

export const onClose = (listener) => { closeListener = listener; };

export function close() {
  openId = shownText = selectedId = null;
  panel.hidden = true;
  panel.replaceChildren();
}

// Shows a trace, or updates the open one. The open folds and the scroll position are kept.
export async function load(id) {
  if (id !== openId) {
    openId = id;
    shownText = undefined;
    selectedId = null;
    panel.scrollTop = 0;
  }
  const requestNumber = ++requestCount;
  let content;
  try {
    const reply = await fetch(`/api/inbox/trace?${new URLSearchParams({ id })}`);
    content = reply.ok ? await reply.text() : null;
    if (!reply.ok && reply.status !== 404) throw new Error(await reply.text());
  } catch (error) {
    if (requestNumber === requestCount && shownText === undefined) showError("This trace can't be read", error.message);
    return;
  }
  // The responses to two requests may arrive in the other order.
  if (requestNumber !== requestCount || id !== openId || content === shownText) return;
  shownText = content;
  if (content === null) showError("This trace is not here", "It has not come yet, or it is no longer kept.");
  else show(id, content);
}

// A trace may contain values that this page cannot draw. Its raw payload is shown instead.
function show(id, content) {
  try {
    draw(JSON.parse(content));
  } catch (error) {
    showError("This trace can't be shown", error.message);
    panel.append(raw(id));
  }
}

function showError(title, message) {
  panel.hidden = false;
  panel.replaceChildren(make("header", {}, make("h2", { textContent: title }), closeButton()),
    make("p", { className: "quiet", textContent: message }));
}

const closeButton = () => button("×", () => closeListener(), { className: "round", ariaLabel: "Close the trace" });

export function provider(o) {
  const attribute = "gen_ai.provider.name"; // Langfuse 4 has the attributes of a span under their paths
  const name = o.metadata.provider || o.metadata[`attributes.${attribute}`] || o.metadata.attributes?.[attribute];
  return typeof name === "string" ? name : "";
}

function draw(trace) {
  const open = new Set([...panel.querySelectorAll("details[open]")].map((node) => node.dataset.key));
  const focused = panel.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const top = panel.scrollTop;
  const all = trace.observations;
  const main = all.find((o) => o.id === trace.main);
  const current = all.find((o) => o.id === selectedId) ?? main;
  panel.hidden = false;
  panel.replaceChildren(...[
    head(trace, main),
    all.length > 0 ? timeline(all, current.id, provider, (id) => {
      selectedId = id;
      draw(trace);
    }) : null,
    current ? observation(current, all.length > 1) : null,
    ownContent(trace),
    raw(trace.id),
  ].filter(Boolean));
  for (const node of panel.querySelectorAll("details")) {
    if (open.has(node.dataset.key)) node.open = true;
  }
  panel.scrollTop = top;
  if (focused) [...panel.querySelectorAll("[data-key]")].find((node) => node.dataset.key === focused)?.focus();
}

function facts(pairs) {
  const present = pairs.filter(([, value]) => isPresent(value) && value !== "")
    .map(([label, value]) => [label, typeof value === "string" ? value : JSON.stringify(value)]);
  return present.length === 0 ? null : make("dl", { className: "facts" }, ...present.map(([label, value]) =>
    make("div", {}, make("dt", { textContent: label }), make("dd", { textContent: value, title: value }))));
}

function worstLevel(all) {
  const levels = new Set(nested(all).filter(([, depth]) => depth === 0).map(([o]) => o.level));
  return ["ERROR", "WARNING", "DEFAULT", "DEBUG"].find((level) => levels.has(level)) ?? "DEFAULT";
}

function head(trace, main) {
  const all = trace.observations;
  const starts = all.map((o) => o.start_time).filter(Boolean).map((at) => new Date(at).getTime());
  const ends = all.map((o) => o.end_time).filter(Boolean).map((at) => new Date(at).getTime());
  const tokens = all.reduce((sum, { usage: counts }) =>
    sum + (counts.total ?? Object.values(counts).reduce((a, b) => a + b, 0)), 0);
  const level = worstLevel(all);
  return make("div", { className: "top" },
    make("header", {},
      make("h2", { textContent: trace.name ?? main?.name ?? trace.id }),
      level === "DEFAULT" ? null : span(`badge ${level}`, levelName(level)),
      closeButton()),
    make("p", { className: "identity" },
      span("quiet", clock(trace.timestamp ? new Date(trace.timestamp).getTime() : 0)),
      span("mono quiet", trace.id), copyButton("Copy the trace id", () => trace.id)),
    facts([
      ["Model", main?.model], ["Provider", main ? provider(main) : ""],
      ["Latency", starts.length && ends.length ? duration(Math.max(...ends) - Math.min(...starts)) : ""],
      ["First token", main ? duration(firstOfTrace(all, main)) : ""],
      ["Tokens", tokens ? count(tokens) : ""], ["Cost", cost(all)],
      ["User", trace.user_id ?? main?.user_id], ["Session", trace.session_id ?? main?.session_id],
      ["Tags", [trace.tags.length ? trace.tags : main?.tags ?? []].flat().join(", ")],
      ["Environment", trace.environment === "default" ? "" : trace.environment],
      ["Release", trace.release], ["Version", trace.version],
    ]));
}

function section(title, nodes, className = "") {
  const filledNodes = [nodes].flat().filter(Boolean);
  return filledNodes.length === 0 ? null
    : make("section", { className }, make("h3", { textContent: title }), ...filledNodes);
}

// The context of one observation: `key` returns the keys of its folds, in the order of their
// creation; `tools` has the names of its tools by the ids of their calls.
function newContext(id, ...values) {
  let number = 0;
  return { key: () => `${id} ${number++}`, tools: toolNames(...values) };
}

const isPresent = (value) => value !== null && value !== undefined;

function observation(o, isOneOfMany) {
  const context = newContext(o.id, o.input, o.output);
  const [input, output] = inputAndOutput(o.input, o.output, context);
  const prompt = o.prompt_name ? `${o.prompt_name}, version ${o.prompt_version}` : "";
  return make("div", { className: "observation" },
    isOneOfMany ? make("h3", { className: "which" }, span(`kind ${o.type}`, o.type.toLowerCase()), o.name ?? o.id,
      o.level === "DEFAULT" ? null : span(`badge ${o.level}`, levelName(o.level))) : null,
    o.status_message ? make("div", { className: `status-message ${o.level}` }, text(String(o.status_message))) : null,
    isOneOfMany || prompt ? facts([
      ...(isOneOfMany ? [["Model", o.model], ["Provider", provider(o)],
        ["Latency", duration(latency(o))], ["First token", duration(first(o))]] : []),
      ["Prompt", prompt],
    ]) : null,
    input ? section("Input", input, "conversation") : null,
    output ? section("Output", output, "conversation output") : null,
    make("div", { className: "columns" },
      section("Usage", usage(o.usage, o.cost, o.metadata.reasoning_tokens), "usage"),
      section("Model parameters", filled(o.model_parameters) ? definitions(o.model_parameters) : null)),
    section("Metadata", filled(o.metadata) ? definitions(o.metadata) : null));
}

// The trace's own input, output and metadata, as far as no observation has the same.
function ownContent(trace) {
  const isNew = (value, read) => {
    const json = JSON.stringify(value);
    return isPresent(value) && !trace.observations.some((o) => JSON.stringify(read(o)) === json);
  };
  const context = newContext(`trace ${trace.id}`, trace.input, trace.output);
  const metadata = Object.fromEntries(Object.entries(trace.metadata)
    .filter(([name, value]) => isNew(value, (o) => o.metadata[name])));
  const hasInput = isNew(trace.input, (o) => o.input);
  const hasOutput = isNew(trace.output, (o) => o.output);
  if (!hasInput && !hasOutput && !filled(metadata)) return null;
  return fold(`own ${trace.id}`, "The trace's own input, output and metadata", () => {
    const [input, output] = inputAndOutput(trace.input, trace.output, context);
    return [
      hasInput ? section("Input", input, "conversation") : null,
      hasOutput ? section("Output", output, "conversation output") : null,
      filled(metadata) ? section("Metadata", definitions(metadata)) : null,
    ].filter(Boolean);
  }, "whole");
}

// The events or spans as Langfuse receives them, requested when the fold is opened.
function raw(id) {
  const read = async () => {
    const reply = await fetch(`/api/inbox/raw?${new URLSearchParams({ id })}`);
    if (!reply.ok) throw new Error(await reply.text());
    return reply.text();
  };
  return fold(`raw ${id}`, "Raw payload, as Langfuse gets it", () => {
    const shell = make("div", { textContent: "Loading…" });
    read().then((payload) => {
      const number = JSON.parse(payload).length;
      shell.replaceChildren(
        make("p", { className: "quiet" }, `${plural(number, "event")}, ${count(payload.length)} characters `,
          copyButton("Copy the raw payload", () => payload)),
        make("pre", { tabIndex: 0, ariaLabel: "Raw payload" }, text(payload, "json")));
    }).catch((error) => { shell.textContent = `The inbox does not answer (${error.message}).`; });
    return shell;
  }, "raw");
}
