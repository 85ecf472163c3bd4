// The load: a line of JSON on stdin is a job for autocannon, the answer a line on
// stdout. https://github.com/mcollina/autocannon
//
// In: {url, headers, body, connections, amount}. Out: for each call, in
// milliseconds, the time to its first byte and to its end; the gaps between the
// pieces of its body; and how long all of them took. A connection's first call,
// which opens it, is made but not told.
import { createInterface } from "node:readline";
import autocannon from "autocannon";

async function run({ url, headers, body, connections, amount }) {
  const first = [], whole = [], gaps = [], wrong = [];
  let started, ended;
  const setupClient = (client) => {
    let calls = 0, began, last;
    client.on("request", () => {
      began = performance.now();
      started ??= began;
      last = undefined;
    });
    client.on("headers", ({ statusCode }) => statusCode === 200 || wrong.push(statusCode));
    client.on("body", () => {
      const now = performance.now();
      if (calls > 0) last === undefined ? first.push(now - began) : gaps.push(now - last);
      last = now;
    });
    client.on("response", () => {
      ended = performance.now();
      if (calls++) whole.push(ended - began);
    });
  };
  const calls = amount + connections;
  // It looks only so often whether it is done.
  const often = { sampleInt: 5, timeout: 60 };
  const result = await autocannon({ url, method: "POST", headers, body, connections, amount: calls, ...often, setupClient });
  if (wrong.length || result.errors || result.timeouts)
    throw new Error(`${result.errors} errors, ${result.timeouts} timeouts, statuses ${[...new Set(wrong)]}`);
  return { first, whole, gaps, seconds: (ended - started) / 1000, calls };
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await run(JSON.parse(line)).catch((error) => ({ error: error.message }));
  console.log(JSON.stringify(answer));
}
