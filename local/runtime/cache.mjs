// Storage for the Cache API of a bare workerd: a service beside the Worker, in memory
// and without a port. workerd sends a match as a GET, a put as a PUT whose body is a
// complete HTTP response that is never chunked, and a delete as a PURGE. Status and
// `cf-cache-status` of the response are the result.
// https://github.com/cloudflare/workerd/blob/main/src/workerd/api/cache.c%2B%2B
const MAX_ENTRIES = 1000;
const MAX_BYTES = 64 * 1024 * 1024;
const entries = new Map(); // in the order in which they were put
let bytes = 0;

function remove(key) {
  bytes -= entries.get(key)?.body.byteLength ?? 0;
  return entries.delete(key);
}

// An HTTP response in an ArrayBuffer.
function parse(message) {
  const text = new TextDecoder("latin1").decode(message);
  const end = text.indexOf("\r\n\r\n");
  const [statusLine, ...lines] = text.slice(0, end).split("\r\n");
  const headers = new Headers(lines.map((line) => line.split(/: *(.*)/, 2)));
  return { status: Number(statusLine.split(" ")[1]), headers, body: message.slice(end + 4) };
}

function put(key, { status, headers, body }) {
  const maxAge = Number(/\bmax-age=(\d+)/.exec(headers.get("cache-control"))?.[1] ?? 0);
  if (headers.has("set-cookie") || body.byteLength > MAX_BYTES) return new Response(null, { status: 413 });
  headers.set("cf-cache-status", "HIT");
  remove(key);
  entries.set(key, { status, headers, body, expires: Date.now() + 1000 * maxAge });
  bytes += body.byteLength;
  while (entries.size > MAX_ENTRIES || bytes > MAX_BYTES) remove(entries.keys().next().value); // the oldest
  return new Response(null, { status: 204 });
}

function match(key) {
  const entry = entries.get(key);
  if (entry && Date.now() < entry.expires) return new Response(entry.body.byteLength ? entry.body : null, entry);
  remove(key);
  return new Response(null, { status: 504, headers: { "cf-cache-status": "MISS" } });
}

export default {
  async fetch(request) {
    const key = `${request.headers.get("cf-cache-namespace")} ${request.url}`;
    if (request.method === "PUT") return put(key, parse(await request.arrayBuffer()));
    if (request.method === "PURGE") return new Response(null, { status: remove(key) ? 200 : 404 });
    return match(key);
  },
};
