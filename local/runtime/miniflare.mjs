// Runs the Worker in miniflare, which adds simulated queues and rate limits, and a
// cache, to workerd.
//
// runtime.py starts it for a Worker with such bindings. The first line of standard
// input is a description of the Worker, so that no file contains its secrets. At the
// end of the input workerd and this process end. The first argument is a file
// descriptor to which port and process id are written when workerd is up.
//
// Nothing here connects to the network: without `cf: false` miniflare would download
// a file.
import { subscribe } from "node:diagnostics_channel";
import { closeSync, readFileSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { Log, LogLevel, Miniflare } from "miniflare";

const TYPES = { esModule: "esm", json: "json", text: "text", data: "data", wasm: "wasm" };

// Connects only to the networks that the Worker may reach. miniflare's own network
// allows more.
const OUTBOUND = `export default { fetch: (request, env) => env.NETWORK.fetch(request) };`;

// The consumer of the dead-letter queues: each message becomes a line of the log.
const DEAD_LETTERS = `export default {
  async queue({ queue, messages }) {
    for (const { body } of messages) {
      const content = typeof body === "string" ? { text: body } : { base64: new Uint8Array(body).toBase64() };
      console.log(JSON.stringify({ event: "dead_letter", queue, ...content }));
    }
  },
};`;

function script(name, code, date, rest = {}) {
  const manifest = { mainModule: "main.mjs", modules: { "main.mjs": { type: "esm", contents: code } } };
  return { config: { name, compatibilityDate: date, manifest, ...rest } };
}

// The trigger of miniflare for a consumer, whose settings have the names of
// wrangler.toml.
function trigger({ queue, ...settings }) {
  const camel = (name) => name.replace(/_./g, ([, letter]) => letter.toUpperCase());
  const renamed = Object.entries(settings).map(([name, value]) => [camel(name), value]);
  return { type: "queue", name: queue, ...Object.fromEntries(renamed) };
}

function options({ folder, modules, date, flags, env, queues, rateLimits, allow, port }) {
  const sources = Object.entries(modules).map(([name, kind]) => {
    const contents = readFileSync(`${folder}/${name}`, ["data", "wasm"].includes(kind) ? null : "utf8");
    return [name, { type: TYPES[kind], contents }];
  });
  const binding = (value) => (typeof value === "string" ? { type: "text", value } : { type: "json", value });
  const bindings = Object.entries(env).map(([name, value]) => [name, binding(value)]);
  const producers = Object.entries(queues).map(([name, { queue }]) => [name, { type: "queue", name: queue }]);
  const limits = Object.entries(rateLimits).map(([name, simple]) => [
    name,
    { type: "rate-limit", namespace: name, simple },
  ]);
  const consumers = Object.values(queues);
  const deadLetterQueues = new Set(consumers.map((consumer) => consumer.dead_letter_queue).filter(Boolean));
  const network = { type: "network", allow, tlsOptions: { trustBrowserCas: true } };
  return {
    host: "127.0.0.1",
    port: 0,
    cf: false,
    enableDevRegistry: false,
    log: new Log(LogLevel.WARN),
    handleStructuredLogs: ({ message }) => process.stdout.write(`${message}\n`),
    // When workerd ends, this process does too, instead of starting a new one.
    unsafeHandleRuntimeRestart: () => process.exit(1),
    workers: [
      {
        config: {
          name: "worker",
          compatibilityDate: date,
          compatibilityFlags: flags,
          manifest: { mainModule: "host.mjs", modules: Object.fromEntries(sources) },
          env: Object.fromEntries([...bindings, ...producers, ...limits]),
          triggers: consumers.map(trigger),
        },
        dev: {
          unsafeEvalBinding: "UNSAFE_EVAL",
          unsafeDirectSockets: [{ host: "127.0.0.1", port }],
          outboundService: { type: "worker", worker: "outbound" },
        },
      },
      script("outbound", OUTBOUND, date, { env: { NETWORK: network } }),
      script("dead-letters", DEAD_LETTERS, date, {
        triggers: [...deadLetterQueues].map((queue) => trigger({ queue, max_batch_timeout: 0 })),
      }),
    ],
  };
}

let workerd;
subscribe("child_process", ({ process }) => (workerd = process));

const input = createInterface(process.stdin);
input.once("line", async (line) => {
  const miniflare = new Miniflare(options(JSON.parse(line)));
  input.once("close", async () => {
    await miniflare.dispose();
    process.exit();
  });
  const { port } = await miniflare.unsafeGetDirectURL("worker");
  const control = Number(process.argv[2]);
  writeSync(control, `${JSON.stringify({ port: Number(port), pid: workerd.pid })}\n`);
  closeSync(control);
});
