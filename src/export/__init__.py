"""Delivery of observations to Langfuse."""
