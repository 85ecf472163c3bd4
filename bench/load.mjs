// The load tool. Each line of JSON on stdin is a job for autocannon, whose result
// is a line of JSON on stdout. https://github.com/mcollina/autocannon
//
// A job is {url, headers, body, connections, amount}; `amount` is the number of
// calls. The result has, in milliseconds, the time of each call to the first byte
// of its body (`first`) and to its end (`whole`), and the times between the pieces
// of the bodies (`gaps`). `seconds` is the duration of all calls, `calls` their
// number, or `error` a message. Each connection makes one call more, which opens it
// and is not in `first`, `whole` and `gaps`.
import { createInterface } from "node:readline";
import autocannon from "autocannon";

async function run({ url, headers, body, connections, amount }) {
  const first = [], whole = [], gaps = [], errorStatuses = [];
  let started, ended;
  const setupClient = (client) => {
    let calls = 0, began, last;
    client.on("request", () => {
      began = performance.now();
      started ??= began;
      last = undefined;
    });
    client.on("headers", ({ statusCode }) => statusCode === 200 || errorStatuses.push(statusCode));
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
  // `sampleInt` is the interval in which autocannon checks whether it is done.
  const options = { sampleInt: 5, timeout: 60 };
  const result = await autocannon({ url, method: "POST", headers, body, connections, amount: calls, ...options, setupClient });
  if (errorStatuses.length || result.errors || result.timeouts)
    throw new Error(`${result.errors} errors, ${result.timeouts} timeouts, statuses ${[...new Set(errorStatuses)]}`);
  return { first, whole, gaps, seconds: (ended - started) / 1000, calls };
}

for await (const line of createInterface({ input: process.stdin })) {
  const result = await run(JSON.parse(line)).catch((error) => ({ error: error.message }));
  console.log(JSON.stringify(result));
}
