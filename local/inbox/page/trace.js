// One trace: its head, its timeline, and the observation of it that is open.

import { button, byId, clock, copyButton, count, definitions, duration, filled, fold, levelWord, make, plural, span, text } from "./dom.js";
import { conversation, toolNames } from "./messages.js";
import { first, latency, nested, timeline } from "./timeline.js";
import { cost, usage } from "./usage.js";

const panel = byId("trace");
let close_ = () => {};
let wanted = null; // the id of the trace that is open
let written = null; // what the inbox said of it, to see whether it says something else
let shown = null; // the id of the observation that was chosen
let questions = 0;

export const onClose = (listener) => { close_ = listener; };

export function close() {
  wanted = written = shown = null;
  panel.hidden = true;
  panel.replaceChildren();
}

// Shows a trace, or what has changed of it. What is folded out stays so, and the place is kept.
export async function load(id) {
  if (id !== wanted) {
    wanted = id;
    written = undefined;
    shown = null;
    panel.scrollTop = 0;
  }
  const question = ++questions;
  let content;
  try {
    const reply = await fetch(`/api/inbox/trace?${new URLSearchParams({ id })}`);
    content = reply.ok ? await reply.text() : null;
    if (!reply.ok && reply.status !== 404) throw new Error(await reply.text());
  } catch (error) {
    if (question === questions && written === undefined) fail("This trace can't be read", error.message);
    return;
  }
  // An answer to an earlier question may come after one to a later.
  if (question !== questions || id !== wanted || content === written) return;
  written = content;
  if (content === null) fail("This trace is not here", "It has not come yet, or it is no longer kept.");
  else show(id, content);
}

// A trace may hold what nobody thought of: what came is shown then, as it came.
function show(id, content) {
  try {
    draw(JSON.parse(content));
  } catch (error) {
    fail("This trace can't be shown", error.message);
    panel.append(raw(id));
  }
}

function fail(title, words) {
  panel.hidden = false;
  panel.replaceChildren(make("header", {}, make("h2", { textContent: title }), closing()),
    make("p", { className: "quiet", textContent: words }));
}

const closing = () => button("×", () => close_(), { className: "round", ariaLabel: "Close the trace" });

export function provider(o) {
  const said = o.metadata.provider || o.metadata.attributes?.["gen_ai.provider.name"];
  return typeof said === "string" ? said : "";
}

function draw(trace) {
  const open = new Set([...panel.querySelectorAll("details[open]")].map((node) => node.dataset.key));
  const focused = panel.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const top = panel.scrollTop;
  const all = trace.observations;
  const main = all.find((o) => o.id === trace.main);
  const current = all.find((o) => o.id === shown) ?? main;
  panel.hidden = false;
  panel.replaceChildren(...[
    head(trace, main),
    all.length > 0 ? timeline(all, current.id, provider, (id) => {
      shown = id;
      draw(trace);
    }) : null,
    current ? observation(current, all.length > 1) : null,
    own(trace),
    raw(trace.id),
  ].filter(Boolean));
  for (const node of panel.querySelectorAll("details")) {
    if (open.has(node.dataset.key)) node.open = true;
  }
  panel.scrollTop = top;
  if (focused) [...panel.querySelectorAll("[data-key]")].find((node) => node.dataset.key === focused)?.focus();
}

function facts(pairs) {
  const told = pairs.filter(([, value]) => isThere(value) && value !== "")
    .map(([label, value]) => [label, typeof value === "string" ? value : JSON.stringify(value)]);
  return told.length === 0 ? null : make("dl", { className: "facts" }, ...told.map(([label, value]) =>
    make("div", {}, make("dt", { textContent: label }), make("dd", { textContent: value, title: value }))));
}

function worst(all) {
  const levels = new Set(nested(all).filter(([, depth]) => depth === 0).map(([o]) => o.level));
  return ["ERROR", "WARNING", "DEFAULT", "DEBUG"].find((level) => levels.has(level)) ?? "DEFAULT";
}

function head(trace, main) {
  const all = trace.observations;
  const starts = all.map((o) => o.start_time).filter(Boolean).map((at) => new Date(at).getTime());
  const ends = all.map((o) => o.end_time).filter(Boolean).map((at) => new Date(at).getTime());
  const tokens = all.reduce((sum, { usage: told }) =>
    sum + (told.total ?? Object.values(told).reduce((a, b) => a + b, 0)), 0);
  const level = worst(all);
  return make("div", { className: "top" },
    make("header", {},
      make("h2", { textContent: trace.name ?? main?.name ?? trace.id }),
      level === "DEFAULT" ? null : span(`badge ${level}`, levelWord(level)),
      closing()),
    make("p", { className: "identity" },
      span("quiet", clock(trace.timestamp ? new Date(trace.timestamp).getTime() : 0)),
      span("mono quiet", trace.id), copyButton("Copy the trace id", () => trace.id)),
    facts([
      ["Model", main?.model], ["Provider", main ? provider(main) : ""],
      ["Latency", starts.length && ends.length ? duration(Math.max(...ends) - Math.min(...starts)) : ""],
      ["First token", main ? duration(first(main)) : ""],
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

// Keys for the folds of one observation, in the order of their making, and the names of its tools.
function place(id, ...values) {
  let number = 0;
  return { key: () => `${id} ${number++}`, tools: toolNames(...values) };
}

const isThere = (value) => value !== null && value !== undefined;

function observation(o, isOneOfMany) {
  const here = place(o.id, o.input, o.output);
  const prompt = o.prompt_name ? `${o.prompt_name}, version ${o.prompt_version}` : "";
  return make("div", { className: "observation" },
    isOneOfMany ? make("h3", { className: "which" }, span(`kind ${o.type}`, o.type.toLowerCase()), o.name ?? o.id,
      o.level === "DEFAULT" ? null : span(`badge ${o.level}`, levelWord(o.level))) : null,
    o.status_message ? make("div", { className: `verdict ${o.level}` }, text(String(o.status_message))) : null,
    isOneOfMany || prompt ? facts([
      ...(isOneOfMany ? [["Model", o.model], ["Provider", provider(o)],
        ["Latency", duration(latency(o))], ["First token", duration(first(o))]] : []),
      ["Prompt", prompt],
    ]) : null,
    isThere(o.input) ? section("Input", conversation(o.input, "Input", here), "conversation") : null,
    isThere(o.output) ? section("Output", conversation(o.output, "Output", here), "conversation output") : null,
    make("div", { className: "columns" },
      section("Usage", usage(o.usage, o.cost), "usage"),
      section("Model parameters", filled(o.model_parameters) ? definitions(o.model_parameters) : null)),
    section("Metadata", filled(o.metadata) ? definitions(o.metadata) : null));
}

// What the trace says of itself and none of its observations does.
function own(trace) {
  const isNew = (told, read) => {
    const said = JSON.stringify(told);
    return isThere(told) && !trace.observations.some((o) => JSON.stringify(read(o)) === said);
  };
  const here = place(`trace ${trace.id}`, trace.input, trace.output);
  const said = Object.fromEntries(Object.entries(trace.metadata)
    .filter(([name, value]) => isNew(value, (o) => o.metadata[name])));
  const parts = [
    isNew(trace.input, (o) => o.input) ? () => section("Input", conversation(trace.input, "Input", here), "conversation") : null,
    isNew(trace.output, (o) => o.output) ? () => section("Output", conversation(trace.output, "Output", here), "conversation output") : null,
    filled(said) ? () => section("Metadata", definitions(said)) : null,
  ].filter(Boolean);
  if (parts.length === 0) return null;
  return fold(`own ${trace.id}`, "The trace's own input, output and metadata", () => parts.map((make_) => make_()), "whole");
}

// The events or spans as Langfuse gets them, asked for when somebody wants to see them.
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
