// Takes a memory snapshot of Python after the import of the Worker, from which
// host.mjs starts. Cloudflare takes one when a Worker is uploaded.
//
// As at Cloudflare it is taken in the global scope, where workerd refuses I/O, timers
// and random numbers. snapshots.py runs it twice: first without a base, which takes a
// snapshot after the import of the SDK, and then with that one as the base, which
// takes it after the import of the Worker.
//
// A snapshot contains no JavaScript objects, but references: the names that lead to an
// object from the global scope, or from an object of the host. Pyodide records those
// of the global scope and `record` the others, in proxies that exist only here. An
// object without a reference is refused.
// https://github.com/cloudflare/workerd/blob/main/src/pyodide/internal/snapshot.ts
// https://github.com/pyodide/pyodide/blob/main/src/js/snapshot.ts
import * as workersModule from "cloudflare:workers";
import { boot, replaceGlobals, runtimeObjects } from "boot.mjs";
import base from "base.bin";
import bundle from "bundle.json";
import hashSeed from "hash_seed.txt";
import hostSource from "host.py";

const references = new WeakMap(); // from an object or a proxy to { name, path }
const targets = new WeakMap(); // from a proxy to its object

// A proxy of an object of the host, and of every object that is read from it.
function record(object, name, path = []) {
  const proxy = new Proxy(object, {
    get(target, key) {
      const value = Reflect.get(target, key);
      const { writable, configurable } = Reflect.getOwnPropertyDescriptor(target, key) ?? {};
      const isFixed = writable === false && configurable === false; // a proxy has to return it unchanged
      const isObject = typeof value === "function" || (typeof value === "object" && value !== null);
      return isObject && !isFixed ? record(value, name, [...path, key]) : value;
    },
    // A function of workerd's rejects a proxy as `this`.
    apply: (target, self, args) => Reflect.apply(target, targets.get(self) ?? self, args),
  });
  references.set(proxy, { name, path });
  targets.set(proxy, object);
  return proxy;
}

// Pyodide's proxy of one of workerd's classes has a proxy of its prototype. An instance
// would inherit from that, and the snapshot would refer to the prototype in its place.
function protectInstances() {
  const construct = (target, args) => Reflect.construct(target, args);
  for (const name in globalThis) {
    const value = globalThis[name];
    if (typeof value === "function" && value.prototype) globalThis[name] = new Proxy(value, { construct });
  }
}

// What workerd allows in the global scope, or refuses only when the result is awaited.
function guardGlobals() {
  const refuse = (name) => () => {
    throw new Error(`${name} at import: a deployed Worker is a snapshot taken after its import`);
  };
  globalThis.fetch = refuse("fetch");
  Math.random = refuse("Math.random");
}

// The message that names the variables which keep `refused` objects, and proxies of
// Python objects, for which Pyodide raises an error of its own.
function refusal(refused, host) {
  const variables = new Map([...refused].map((value) => [value, new Set()]));
  const proxies = new Set();
  for (const [variable, value, isPythonProxy] of host.javascript_objects()) {
    if (isPythonProxy) {
      proxies.add(value);
      if (!variables.has(value)) variables.set(value, new Set());
    }
    variables.get(value)?.add(variable);
  }
  const lines = [...variables].map(([value, names]) => {
    const kind = proxies.has(value) ? "proxy of a Python object" : (value.constructor?.name ?? typeof value);
    return `  ${[...names].sort().join(", ") || "something that was imported"}: JavaScript ${kind}`;
  });
  return [
    "A deployed Worker is a memory snapshot taken after its import, which cannot contain these objects.",
    "Create them when they are needed, not at import:",
    ...lines.sort(),
  ].join("\n");
}

function takeSnapshot(pyodide, host) {
  const refused = new Set();
  const serializer = (value) => {
    const reference = references.get(value);
    if (!reference) refused.add(value);
    return reference ?? null;
  };
  let snapshot;
  try {
    snapshot = pyodide.makeMemorySnapshot({ serializer });
  } catch (error) {
    throw new Error(`${refusal(refused, host)}\n${error.message}`);
  }
  if (refused.size) throw new Error(refusal(refused, host));
  return snapshot;
}

async function importBundle() {
  const workers = record({ ...workersModule, env: {} }, "workers");
  const objects = runtimeObjects(workers, record({}, "sockets"));
  for (const name of ["helper", "flags"]) references.set(objects[name], { name, path: [] });
  // Python's random numbers are seeded before the Worker is imported, and anew in host.mjs.
  const restoreCrypto = replaceGlobals({ crypto: { getRandomValues: (array) => array.fill(1) } });
  const snapshot = base.byteLength ? base : undefined;
  const pyodide = await boot(bundle, { snapshot, objects, hashSeed, _makeSnapshot: true });
  protectInstances();
  if (!snapshot) {
    pyodide.registerJsModule("_pyodide_entrypoint_helper", objects.helper);
    pyodide.registerJsModule("_cloudflare_compat_flags", objects.flags);
    // Outside of the search path, so that the Worker cannot import it in place of its own.
    pyodide.runPython("import sys, types; sys.modules['_local_host'] = types.ModuleType('_local_host')");
    const globals = pyodide.pyimport("_local_host").__dict__;
    pyodide.runPython(hostSource, { globals, filename: "host.py" });
  }
  const host = pyodide.pyimport("_local_host");
  if (snapshot) {
    host.restore();
    restoreCrypto();
    guardGlobals();
    host.import_worker();
  } else host.import_sdk();
  return takeSnapshot(pyodide, host);
}

let snapshot;
let failure;
try {
  snapshot = await importBundle();
} catch (error) {
  failure = error;
}

export default {
  fetch: () => (failure ? new Response(failure.message, { status: 500 }) : new Response(snapshot)),
};
