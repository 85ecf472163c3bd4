"""The local run: the gateway in workerd, an echo provider and a Langfuse inbox on loopback."""
