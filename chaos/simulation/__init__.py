"""A whole cluster in one process, under a seeded scheduler with virtual time."""
