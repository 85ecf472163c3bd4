"""What a deployment and a caller may configure, parsed and checked."""
