"""Name and version of the gateway."""

# Langfuse behaves by the names of its own SDKs and of its own gateway; this is none of them.
NAME, VERSION = "ai-gateway-worker", "0.1.0"
