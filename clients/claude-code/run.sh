# Claude Code, without its window: a question, and one that takes a tool.
export ANTHROPIC_BASE_URL=${GATEWAY_URL:-http://127.0.0.1:8787}
export ANTHROPIC_AUTH_TOKEN=${GATEWAY_KEY:-your-key}
export ANTHROPIC_CUSTOM_HEADERS='x-portkey-user-id: ada
x-portkey-metadata: {"team": "search"}'
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1

claude -p 'Hello!' --model claude-opus-4-6

claude -p 'Please run Bash({"command": "echo 18 degrees", "description": "Say how warm it is"}).' \
  --model claude-opus-4-6 --allowedTools 'Bash(echo:*)'
