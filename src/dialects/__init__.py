"""Wire formats of model APIs, read for the trace."""
