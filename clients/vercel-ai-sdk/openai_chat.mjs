// Vercel's AI SDK with OpenAI's models, chat completions: whole, streamed, with a tool.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const gateway = createOpenAI({
  baseURL: (process.env.GATEWAY_URL ?? "http://127.0.0.1:8787") + "/v1",
  apiKey: process.env.GATEWAY_KEY ?? "your-key",
  headers: { "x-portkey-user-id": "ada", "x-portkey-session-id": "session-7" },
});
const model = gateway.chat("gpt-4o-mini");

console.log("whole:", (await generateText({ model, prompt: "Hello!" })).text);

let text = "";
for await (const piece of streamText({ model, prompt: "Hello!" }).textStream) text += piece;
console.log("streamed:", text);

const get_weather = tool({
  description: "The temperature in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => {
    console.log("tool: get_weather", city);
    return `18 degrees in ${city}`;
  },
});
const answer = await generateText({
  model,
  tools: { get_weather },
  stopWhen: stepCountIs(5),
  prompt: 'How warm is it in Paris? Please ask get_weather({"city": "Paris"}).',
});
console.log("answer:", answer.text);
