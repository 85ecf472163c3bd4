"""The configuration of a deployment and of a call, parsed and validated."""
