"""The HTTP API: one module a resource, one declarative route table."""
