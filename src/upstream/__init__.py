"""Calls to providers: which, with what, how often."""
