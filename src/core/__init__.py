"""Types, protocols and helpers that know nothing of the other packages."""
