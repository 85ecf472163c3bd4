"""Name and version of the gateway."""

# Langfuse treats data differently by the names of its own SDKs and of its own gateway, so this name
# must be none of them.
NAME, VERSION = "ai-gateway-worker", "0.1.0"
