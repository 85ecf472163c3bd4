"""The benchmark: what the gateway costs in time, CPU and memory."""
