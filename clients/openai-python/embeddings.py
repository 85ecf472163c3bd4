"""OpenAI's SDK for Python, embeddings."""

import os

import openai

client = openai.OpenAI(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ.get("GATEWAY_KEY", "your-key"),
    default_headers={"x-portkey-user-id": "ada", "x-portkey-session-id": "session-7"},
)

reply = client.embeddings.create(model="text-embedding-3-small", input=["Hello!", "Goodbye!"])
print("embeddings:", len(reply.data), "of", len(reply.data[0].embedding))
