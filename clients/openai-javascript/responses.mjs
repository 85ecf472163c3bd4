// OpenAI's SDK for JavaScript, Responses API: whole, streamed, with a tool.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: (process.env.GATEWAY_URL ?? "http://127.0.0.1:8787") + "/v1",
  apiKey: process.env.GATEWAY_KEY ?? "your-key",
  defaultHeaders: { "x-portkey-user-id": "ada", "x-portkey-session-id": "session-7" },
});
const model = "gpt-4o-mini";

let reply = await client.responses.create({ model, input: "Hello!" });
console.log("whole:", reply.output_text);

let text = "";
for await (const event of await client.responses.create({ model, input: "Hello!", stream: true }))
  if (event.type === "response.output_text.delta") text += event.delta;
console.log("streamed:", text);

const getWeather = ({ city }) => `18 degrees in ${city}`;

const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
};
const tools = [{ type: "function", name: "get_weather", parameters }];
const question = 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).';
const input = [{ role: "user", content: question }];
reply = await client.responses.create({ model, input, tools });
input.push(...reply.output);
for (const item of reply.output.filter(({ type }) => type === "function_call")) {
  console.log("tool:", item.name, item.arguments);
  const output = getWeather(JSON.parse(item.arguments));
  input.push({ type: "function_call_output", call_id: item.call_id, output });
}
reply = await client.responses.create({ model, input, tools });
console.log("answer:", reply.output_text);
