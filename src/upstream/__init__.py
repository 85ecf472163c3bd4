"""Calls to providers: their order, what each one sends, and what came of it."""
