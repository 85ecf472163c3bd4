"""A request from end to end."""
