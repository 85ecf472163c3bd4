# curl, Anthropic's messages: whole, streamed, with a tool.
gateway=${GATEWAY_URL:-http://127.0.0.1:8787} key=${GATEWAY_KEY:-your-key}

ask() {
  curl --silent --show-error --fail-with-body --no-buffer -w "\n" "$gateway/v1/messages" \
    -H "x-api-key: $key" -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' \
    -H 'x-portkey-user-id: ada' -H 'x-portkey-session-id: session-7' \
    -d "{\"model\": \"claude-opus-4-6\", \"max_tokens\": 1024, $1}"
}

ask '"messages": [{"role": "user", "content": "Hello!"}]'

ask '"messages": [{"role": "user", "content": "Hello!"}], "stream": true'

tools='[{"name": "get_weather", "input_schema":
  {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]'
question='{"role": "user", "content":
  "How warm is it in Paris? Please ask get_weather({\"city\": \"Paris\"})."}'
ask "\"tools\": $tools, \"messages\": [$question]"

# The call as it came back, and what the tool returned.
call='{"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1",
  "name": "get_weather", "input": {"city": "Paris"}}]}'
result='{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1",
  "content": "18 degrees in Paris"}]}'
ask "\"tools\": $tools, \"messages\": [$question, $call, $result]"
