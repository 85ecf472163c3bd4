// Anthropic's SDK for JavaScript: whole, streamed, with a tool.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({
  baseURL: process.env.GATEWAY_URL ?? "http://127.0.0.1:8787",
  apiKey: process.env.GATEWAY_KEY ?? "your-key",
  defaultHeaders: { "x-portkey-user-id": "ada", "x-portkey-session-id": "session-7" },
});
const asked = { model: "claude-opus-4-6", max_tokens: 1024 };
const hello = [{ role: "user", content: "Hello!" }];

let reply = await client.messages.create({ ...asked, messages: hello });
console.log("whole:", reply.content[0].text);

const stream = client.messages.stream({ ...asked, messages: hello });
console.log("streamed:", await stream.finalText());

const getWeather = ({ city }) => `18 degrees in ${city}`;

const input_schema = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
};
const tools = [{ name: "get_weather", input_schema }];
const question = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).';
const messages = [{ role: "user", content: question }];
reply = await client.messages.create({ ...asked, messages, tools });
const results = reply.content
  .filter(({ type }) => type === "tool_use")
  .map(({ id, name, input }) => {
    console.log("tool:", name, JSON.stringify(input));
    return { type: "tool_result", tool_use_id: id, content: getWeather(input) };
  });
messages.push({ role: "assistant", content: reply.content }, { role: "user", content: results });
reply = await client.messages.create({ ...asked, messages, tools });
console.log("answer:", reply.content[0].text);
