"""`make docs`: the parts of the docs that are written from the source."""
