"""Removal of secrets, truncation, and the log."""
