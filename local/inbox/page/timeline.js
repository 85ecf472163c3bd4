// The timeline: the observations of a trace as a tree, with bars on one axis of time.

import { duration, make, span } from "./dom.js";

const time = (iso) => (iso ? new Date(iso).getTime() : null);
const percent = (value) => `${Math.round(value * 10000) / 100}%`;

export const latency = (o) =>
  (o.start_time && o.end_time ? time(o.end_time) - time(o.start_time) : null);
// The time to the first token. A request with several attempts has it only in its metadata.
export function first(o) {
  if (o.start_time && o.completion_start_time) return time(o.completion_start_time) - time(o.start_time);
  const { time_to_first_token_ms: ms } = o.metadata;
  return typeof ms === "number" ? ms : null;
}

// The same for a trace, of which `main` is the main observation: that of the request above it.
export function firstOfTrace(all, main) {
  const above = all.find((o) => o.id === main.parent_id);
  return first(above && first(above) !== null ? above : main);
}

// Each observation with its depth in the tree. Children follow their parent, by their start.
export function nested(all) {
  const byStart = (a, b) => time(a.start_time) - time(b.start_time);
  const ids = new Set(all.map((o) => o.id));
  const children = Map.groupBy(all.toSorted(byStart), (o) => (ids.has(o.parent_id) ? o.parent_id : null));
  const shown = new Map();
  // Without recursion, since a tree may be deeper than the JavaScript stack.
  const show = (top) => {
    const stack = [[top, 0]];
    while (stack.length > 0) {
      const [o, depth] = stack.pop();
      if (shown.has(o)) continue;
      shown.set(o, depth);
      stack.push(...(children.get(o.id) ?? []).map((other) => [other, depth + 1]).reverse());
    }
  };
  (children.get(null) ?? []).forEach(show);
  all.forEach(show); // the observations of a cycle have no root
  return [...shown];
}

function bar(o, from, total) {
  const start = time(o.start_time);
  const track = make("span", { className: "track" });
  if (start === null) return track;
  const took = latency(o);
  const node = make("span", { className: `span ${o.level} ${took === null ? "point" : ""}` });
  node.style.left = percent((start - from) / total);
  node.style.width = percent((took ?? 0) / total);
  if (first(o) !== null && took) {
    node.classList.add("streamed");
    node.style.setProperty("--first", percent(Math.min(first(o) / took, 1)));
    node.append(make("i"));
  }
  track.append(node);
  return track;
}

function accessibleName(o) {
  const parts = [o.name ?? o.id, o.type.toLowerCase(), duration(latency(o))];
  if (first(o) !== null) parts.push(`first token after ${duration(first(o))}`);
  if (o.level !== "DEFAULT") parts.push(o.level.toLowerCase());
  return parts.filter(Boolean).join(", ");
}

// `shown` is the id of the selected observation. `open` is called with the id of a clicked one.
export function timeline(all, shown, provider, open) {
  const starts = all.map((o) => time(o.start_time)).filter((value) => value !== null);
  const ends = all.map((o) => time(o.end_time)).filter((value) => value !== null);
  const from = Math.min(...starts);
  const total = Math.max(1, Math.max(...ends, ...starts) - from);
  const rows = nested(all).map(([o, depth]) => {
    const providerAndModel = [provider(o), o.model].filter(Boolean).join(" · ");
    const row = make("button", { type: "button", className: "step", ariaLabel: accessibleName(o) },
      make("span", { className: "label" }, span(`kind ${o.type}`, o.type.toLowerCase()),
        span("name", o.name ?? o.id), span("quiet", all.length > 1 ? providerAndModel : "")),
      bar(o, from, total),
      make("span", { className: "took" }, span("", duration(latency(o))),
        first(o) === null ? null : span("quiet", `first token ${duration(first(o))}`)),
      all.length > 1 && o.status_message ? span(`why ${o.level}`, o.status_message) : null);
    row.style.setProperty("--depth", Math.min(depth, 8));
    row.setAttribute("aria-current", String(o.id === shown));
    row.dataset.key = `step ${o.id}`;
    row.addEventListener("click", () => open(o.id));
    return make("li", {}, row);
  });
  const axis = make("div", { className: "axis", ariaHidden: "true" },
    span("", "0"), span("", duration(total / 2)), span("", duration(total)));
  return make("section", { className: "timeline", ariaLabel: "Timeline" },
    all.length > 1 && starts.length > 0 ? axis : null, make("ol", {}, ...rows));
}
