# Codex CLI, without its window: a question, and one that takes a tool.
export GATEWAY_KEY=${GATEWAY_KEY:-your-key}
export GATEWAY_METADATA='{"team": "search"}'

codex exec --skip-git-repo-check 'Hello!'

codex exec --skip-git-repo-check 'Please run exec_command({"cmd": "echo 18 degrees"}).'
