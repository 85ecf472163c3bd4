# curl, chat completions: whole, streamed, with a tool.
gateway=${GATEWAY_URL:-http://127.0.0.1:8787} key=${GATEWAY_KEY:-your-key}

ask() {
  curl --silent --show-error --fail-with-body --no-buffer -w "\n" "$gateway/v1/chat/completions" \
    -H "authorization: Bearer $key" -H 'content-type: application/json' \
    -H 'x-portkey-user-id: ada' -H 'x-portkey-session-id: session-7' -d "$1"
}

ask '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}'

ask '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}],
  "stream": true, "stream_options": {"include_usage": true}}'

tools='[{"type": "function", "function": {"name": "get_weather", "parameters":
  {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]'
question='{"role": "user", "content":
  "How warm is it in Paris? Please ask get_weather({\"city\": \"Paris\"})."}'
ask "{\"model\": \"gpt-4o-mini\", \"tools\": $tools, \"messages\": [$question]}"

# The call as it came back, and what the tool returned.
call='{"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function",
  "function": {"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}}]}'
result='{"role": "tool", "tool_call_id": "call_1", "content": "18 degrees in Paris"}'
ask "{\"model\": \"gpt-4o-mini\", \"tools\": $tools, \"messages\": [$question, $call, $result]}"
