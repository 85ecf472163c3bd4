// OpenAI's SDK for JavaScript, embeddings.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: (process.env.GATEWAY_URL ?? "http://127.0.0.1:8787") + "/v1",
  apiKey: process.env.GATEWAY_KEY ?? "your-key",
  defaultHeaders: { "x-portkey-user-id": "ada", "x-portkey-session-id": "session-7" },
});

const reply = await client.embeddings.create({
  model: "text-embedding-3-small",
  input: ["Hello!", "Goodbye!"],
});
console.log("embeddings:", reply.data.length, "of", reply.data[0].embedding.length);
