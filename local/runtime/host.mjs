// The host outside of Cloudflare: a JavaScript Worker that loads Pyodide inside
// the real workerd and hands every request and every batch of a queue to the
// Python Worker in src/, as Cloudflare's own Python runtime does. `wrangler
// deploy` ships nothing of it.
//
// Three things need care:
//   * workerd refuses to compile WebAssembly from bytes; the `unsafeEval`
//     binding does it while Pyodide boots. It is taken out of the environment
//     before that and dropped after it, so that no Python ever gets at it.
//   * Pyodide looks for a few browser globals while it boots; they are there
//     for just as long.
//   * A deployed Worker is a memory snapshot taken after its import, so its
//     import may use no random numbers, clock, I/O or timers, and may make no
//     JavaScript objects. `guardPlatform` and host.py refuse them here too.
import { env, WorkerEntrypoint } from "cloudflare:workers";
import { loadPyodide } from "pyodide.mjs";
import createPyodideModule from "pyodide.asm.mjs";
import pyodideWasm from "pyodide.asm.wasm";
import stdlib from "python_stdlib.zip";
import bundle from "bundle.json";
import hostSource from "host.py";

const INDEX_URL = "http://pyodide.invalid/";
const LOCK_FILE = {
  info: { arch: "wasm32", platform: "emscripten", version: "0", python: "3.14.0", abi_version: "2026_0" },
  packages: {},
};

let unsafeEval = env.UNSAFE_EVAL;
delete env.UNSAFE_EVAL; // from every view of the environment

async function withGlobals(replacements, action) {
  const before = new Map();
  for (const [name, value] of Object.entries(replacements)) {
    before.set(name, Object.getOwnPropertyDescriptor(globalThis, name));
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  try {
    return await action();
  } finally {
    for (const [name, descriptor] of before) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
  }
}

// What Pyodide expects of its surroundings while it boots.
function bootGlobals() {
  const compile = (bytes) => unsafeEval.newWasmModule(new Uint8Array(bytes));
  const Module = function (bytes) {
    return compile(bytes);
  };
  Module.prototype = WebAssembly.Module.prototype; // `instanceof` has to hold
  Object.setPrototypeOf(Module, WebAssembly.Module); // and the static methods to be there
  const wasm = Object.assign(Object.create(WebAssembly), {
    Module,
    compile: async (bytes) => compile(bytes),
    instantiate: async (source, imports) =>
      source instanceof WebAssembly.Module
        ? new WebAssembly.Instance(source, imports)
        : { module: compile(source), instance: new WebAssembly.Instance(compile(source), imports) },
    instantiateStreaming: async (_response, imports) => ({
      module: pyodideWasm,
      instance: new WebAssembly.Instance(pyodideWasm, imports),
    }),
  });
  return {
    WebAssembly: wasm,
    addEventListener: () => {},
    location: new URL(INDEX_URL),
    fetch: async (url) => {
      const name = String(url?.url ?? url).slice(INDEX_URL.length);
      return name === "python_stdlib.zip" ? new Response(stdlib) : new Response(null);
    },
  };
}

// What a deployed Worker may not touch while it is imported. The guards stay in
// place afterwards, open, since `from js import fetch` keeps what it found.
let importing = false;

function guard(object, name) {
  const check = () => {
    if (importing) throw new Error(`${name} at import: a deployed Worker is a snapshot taken after its import`);
  };
  object[name] = new Proxy(object[name], {
    apply(target, self, args) {
      check();
      return Reflect.apply(target, self, args);
    },
    construct(target, args, newTarget) {
      check();
      return Reflect.construct(target, args, newTarget);
    },
  });
}

function guardPlatform() {
  for (const name of ["fetch", "setTimeout", "setInterval", "Headers", "Request", "Response", "AbortController",
    "IdentityTransformStream", "FixedLengthStream", "TransformStream", "ReadableStream", "URL", "Blob", "FormData"])
    guard(globalThis, name);
  guard(AbortSignal, "timeout");
  guard(Math, "random");
  guard(crypto, "getRandomValues");
  guard(crypto, "randomUUID");
}

// ctx.waitUntil takes Python awaitables: a copy of the proxy keeps the
// coroutine alive until it has run to its end.
function patchWaitUntil(ctx) {
  const waitUntil = ctx.waitUntil.bind(ctx);
  ctx.waitUntil = (awaitable) => {
    const kept = "copy" in awaitable ? awaitable.copy() : awaitable;
    waitUntil(
      (async () => {
        try {
          await kept;
        } finally {
          if ("destroy" in kept) kept.destroy();
        }
      })(),
    );
  };
}

// The environment as the Worker is to see it: a variable that workerd's own
// environment does not have is null in `env`, and what wrangler.toml says holds.
function variables() {
  const { DEFAULTS, ...given } = env;
  const set = Object.entries(given).filter(([, value]) => value !== null);
  return { ...DEFAULTS, ...Object.fromEntries(set) };
}

async function boot() {
  const given = variables();
  const pyodide = await withGlobals(bootGlobals(), () =>
    loadPyodide({
      createPyodideModule,
      indexURL: INDEX_URL,
      lockFileContents: LOCK_FILE,
      stdout: (line) => console.log(line),
      stderr: (line) => console.error(line),
      env: { HOME: "/session", PYTHONDONTWRITEBYTECODE: "1" },
    }),
  );
  unsafeEval = undefined;
  for (const [path, source] of Object.entries(bundle)) {
    const file = `/session/metadata/${path}`;
    pyodide.FS.mkdirTree(file.slice(0, file.lastIndexOf("/")));
    pyodide.FS.writeFile(file, source);
  }
  pyodide.registerJsModule("_pyodide_entrypoint_helper", {
    cloudflareWorkersModule: { env: given },
    cloudflareSocketsModule: {},
    doAnImport: (name) => import(name),
    patchWaitUntil,
  });
  pyodide.registerJsModule("_cloudflare_compat_flags", {});
  pyodide.FS.writeFile("/session/host.py", hostSource);
  const python = pyodide.pyimport("host");
  python.prepare();
  guardPlatform();
  importing = true;
  python.import_worker();
  importing = false;
  return { given, handle: python.handle };
}

let booted;

export default class Host extends WorkerEntrypoint {
  async fetch(request) {
    return await this.#call("fetch", request);
  }

  // workerd gives a class's handler `undefined` for env and context, and
  // Cloudflare's Python runtime passes that on.
  async queue(...args) {
    try {
      return await this.#call("queue", ...args);
    } catch (error) {
      console.error(String(error)); // nobody else would say it
      throw error;
    }
  }

  async #call(handler, ...args) {
    const { given, handle } = await (booted ??= boot());
    return await handle.callWithOptions({ relaxed: true, promising: true }, handler, given, this.ctx, ...args);
  }
}
