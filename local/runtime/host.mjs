// Runs the Worker outside of Cloudflare: restores Python from a memory snapshot, and
// passes every request and every batch of a queue to the Python Worker in src/, as
// Cloudflare's own Python runtime does. `wrangler deploy` uploads nothing of it.
import * as workersModule from "cloudflare:workers";
import { boot, runtimeObjects } from "boot.mjs";
import bundle from "bundle.json";
import packedSnapshot from "snapshot.gz";

const CHUNK_BYTES = 64 * 1024;

// The Worker's environment. A variable that workerd's own environment does not have is
// null in `env`; then the default of wrangler.toml applies.
function variables() {
  const { DEFAULTS, ...bindings } = workersModule.env;
  const set = Object.entries(bindings).filter(([, value]) => value !== null);
  return { ...DEFAULTS, ...Object.fromEntries(set) };
}

// Unpack gzip data, whose last four bytes are the unpacked size. It is written in
// chunks and read at once into one buffer, because a larger write, and a read of
// chunks, would take twice the memory.
async function gunzip(data) {
  const packed = new Uint8Array(data);
  const size = new DataView(data, data.byteLength - 4).getUint32(0, true);
  const { readable, writable } = new DecompressionStream("gzip");
  const read = readable.getReader({ mode: "byob" }).readAtLeast(size, new Uint8Array(size));
  const writer = writable.getWriter();
  for (let at = 0; at < packed.length; at += CHUNK_BYTES) await writer.write(packed.subarray(at, at + CHUNK_BYTES));
  await writer.close();
  return (await read).value;
}

async function start() {
  const env = variables();
  const objects = runtimeObjects({ ...workersModule, env }, {});
  const snapshot = await gunzip(packedSnapshot);
  const pyodide = await boot(bundle, { snapshot, objects });
  // Pyodide and workerd keep these two, nearly 40 MB of the isolate's 128 MB.
  for (const buffer of [snapshot.buffer, packedSnapshot]) buffer.transfer(0);
  const host = pyodide.pyimport("_local_host");
  host.restore();
  return { env, handle: host.handle };
}

let started;

export default class Host extends workersModule.WorkerEntrypoint {
  async fetch(request) {
    return await this.#call("fetch", request);
  }

  // workerd passes `undefined` for env and context to a class's handler. Cloudflare's
  // Python runtime passes that on.
  async queue(...args) {
    try {
      return await this.#call("queue", ...args);
    } catch (error) {
      console.error(String(error)); // workerd does not log it
      throw error;
    }
  }

  async #call(handler, ...args) {
    const { env, handle } = await (started ??= start());
    return await handle.callWithOptions({ relaxed: true, promising: true }, handler, env, this.ctx, ...args);
  }
}
