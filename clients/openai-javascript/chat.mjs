// OpenAI's SDK for JavaScript, chat completions: whole, streamed, with a tool.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: (process.env.GATEWAY_URL ?? "http://127.0.0.1:8787") + "/v1",
  apiKey: process.env.GATEWAY_KEY ?? "your-key",
  defaultHeaders: { "x-portkey-user-id": "ada", "x-portkey-session-id": "session-7" },
});
const model = "gpt-4o-mini";
const hello = [{ role: "user", content: "Hello!" }];

let reply = await client.chat.completions.create({ model, messages: hello });
console.log("whole:", reply.choices[0].message.content);

const stream = await client.chat.completions.create({
  model,
  messages: hello,
  stream: true,
  stream_options: { include_usage: true }, // without it the trace has no tokens
});
let text = "";
for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
console.log("streamed:", text);

const getWeather = ({ city }) => `18 degrees in ${city}`;

const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
};
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const question = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).';
const messages = [{ role: "user", content: question }];
reply = await client.chat.completions.create({ model, messages, tools });
messages.push(reply.choices[0].message);
for (const { id, function: called } of reply.choices[0].message.tool_calls) {
  console.log("tool:", called.name, called.arguments);
  const result = getWeather(JSON.parse(called.arguments));
  messages.push({ role: "tool", tool_call_id: id, content: result });
}
reply = await client.chat.completions.create({ model, messages, tools });
console.log("answer:", reply.choices[0].message.content);
