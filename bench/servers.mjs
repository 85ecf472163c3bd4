// The servers that the gateways of the benchmark call: a provider that returns
// recorded replies, and a Langfuse that accepts every batch. They are written in
// JavaScript because they must be faster than what is measured.
//
//   node bench/servers.mjs RECORDINGS.json PORT
//
// The model of a request is the name of a recording: {"model": "stream-200", …}.
// PORT is the provider's, 0 for any free port. When both servers listen, their
// URLs are printed as JSON. Langfuse's GET /stored returns the number of
// observations that it has stored.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { setImmediate as turn, setTimeout as pause } from "node:timers/promises";

const [file, port] = process.argv.slice(2);
const recordings = JSON.parse(readFileSync(file, "utf8"));
for (const recording of Object.values(recordings)) recording.pieces = recording.pieces.map((text) => Buffer.from(text));

async function read(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const provider = createServer(async (request, response) => {
  if (request.url === "/health") return response.end(); // the request that starts a floor's Worker
  const body = await read(request);
  const model = /"model": ?"([^"]*)"/.exec(body.toString("latin1", 0, 1000))?.[1];
  const recording = recordings[model];
  if (!recording) return response.writeHead(404).end(`no recording ${model}`);
  if (!recording.streamed) {
    const [whole] = recording.pieces;
    return response.writeHead(200, { "content-type": "application/json", "content-length": whole.length }).end(whole);
  }
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  response.socket.setNoDelay(true);
  for (const piece of recording.pieces) {
    if (response.destroyed) return;
    // Each piece has its own turn of the event loop. Otherwise Node would send all of them as one.
    await (recording.pause ? pause(recording.pause) : turn());
    response.write(piece);
  }
  response.end();
});

let stored = 0;
const langfuse = createServer(async (request, response) => {
  const reply = (status, value) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
  const body = await read(request);
  if (request.url === "/api/public/health") return reply(200, { status: "OK", version: "3.0.0" });
  if (request.url === "/stored") return reply(200, stored);
  if (request.url !== "/api/public/ingestion") return reply(404, { message: "not found" });
  const { batch } = JSON.parse(body);
  stored += batch.filter((event) => event.type !== "trace-create").length;
  reply(207, { successes: batch.map(({ id }) => ({ id, status: 201 })), errors: [] });
});

const listen = (server, port) =>
  new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`));
  });

console.log(JSON.stringify({ provider: await listen(provider, Number(port)), langfuse: await listen(langfuse, 0) }));
process.stdin.on("end", () => process.exit()).resume(); // ends with its parent process
