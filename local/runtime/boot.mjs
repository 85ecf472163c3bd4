// Loads Pyodide in workerd, for snapshot.mjs and host.mjs.
//
// Two things exist only until Pyodide's WebAssembly is instantiated. They are gone
// before any Python of the Worker can run, also before its memory is restored:
//   * workerd refuses to compile WebAssembly from bytes, which Pyodide does. The
//     binding `unsafeEval` allows it. It is removed from the environment here.
//   * Pyodide uses some globals of a browser.
import { env } from "cloudflare:workers";
import createPyodideModule from "pyodide.asm.mjs";
import pyodideWasm from "pyodide.asm.wasm";
import stdlib from "python_stdlib.zip";

const INDEX_URL = "http://pyodide.invalid/";
const LOCK_FILE = {
  info: { arch: "wasm32", platform: "emscripten", version: "0", python: "3.14.0", abi_version: "2026_0" },
  packages: {},
};
// The folder in which Cloudflare puts the modules of a Worker.
const WORKER_FOLDER = "/session/metadata";

let unsafeEval = env.UNSAFE_EVAL;
delete env.UNSAFE_EVAL; // from every view of the environment

// Replace globals by name. Returns a function that restores them.
export function replaceGlobals(replacements) {
  const before = Object.keys(replacements).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  for (const [name, value] of Object.entries(replacements))
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  return () => {
    for (const [name, descriptor] of before) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
  };
}

function bootGlobals() {
  const compile = (bytes) => unsafeEval.newWasmModule(new Uint8Array(bytes));
  const Module = function (bytes) {
    return compile(bytes);
  };
  Module.prototype = WebAssembly.Module.prototype; // for `instanceof`
  Object.setPrototypeOf(Module, WebAssembly.Module); // for the static methods
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
    // The standard library is all that is fetched. This is not a `Response`, because
    // reading one is I/O, which workerd refuses in the global scope.
    fetch: async () => ({ ok: true, arrayBuffer: async () => stdlib }),
  };
}

// Load Pyodide, and write the Worker's modules into its file system: `modules` maps
// paths to sources. Python's memory is restored from `snapshot` where there is one;
// `objects` are what its references refer to, by name (see snapshot.mjs). Without one
// Python's hashes are seeded with `hashSeed`. All other options are Pyodide's.
export async function boot(modules, { snapshot, objects, hashSeed, ...options }) {
  const restoreGlobals = replaceGlobals(bootGlobals());
  const close = () => {
    restoreGlobals();
    unsafeEval = undefined;
  };
  const createModule = async (settings) => {
    const module = await createPyodideModule(settings);
    close();
    if (snapshot) module.growMemory(snapshot.byteLength); // Pyodide itself does not
    return module;
  };
  const restored = snapshot && {
    _loadSnapshot: snapshot,
    _snapshotDeserializer: ({ name, path }) => path.reduce((object, key) => object[key], objects[name]),
  };
  try {
    // Imported here, because its import compiles WebAssembly from bytes.
    const { loadPyodide } = await import("pyodide.mjs");
    const pyodide = await loadPyodide({
      createPyodideModule: createModule,
      indexURL: INDEX_URL,
      lockFileContents: LOCK_FILE,
      stdout: (line) => console.log(line),
      stderr: (line) => console.error(line),
      env: { HOME: "/session", PYTHONDONTWRITEBYTECODE: "1", PYTHONHASHSEED: hashSeed },
      ...restored,
      ...options,
    });
    for (const [path, source] of Object.entries(modules)) {
      const file = `${WORKER_FOLDER}/${path}`;
      pyodide.FS.mkdirTree(file.slice(0, file.lastIndexOf("/")));
      pyodide.FS.writeFile(file, source);
    }
    return pyodide;
  } finally {
    close();
  }
}

// The objects of the host to which Python's memory may refer: `helper` and `flags`
// are imported as modules by the SDK, which Cloudflare's runtime also provides.
// `workers` and `sockets` are the modules `cloudflare:workers` and
// `cloudflare:sockets` of JavaScript.
// https://github.com/cloudflare/workerd/blob/main/src/pyodide/python-entrypoint-helper.ts
export function runtimeObjects(workers, sockets) {
  const helper = {
    cloudflareWorkersModule: workers,
    cloudflareSocketsModule: sockets,
    doAnImport: (name) => import(name),
    patchWaitUntil,
  };
  return { helper, flags: {}, workers, sockets };
}

// Let `ctx.waitUntil` accept Python awaitables. A copy of the proxy keeps the
// coroutine alive until it ends.
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
