"""A cluster of real processes in simulated availability zones, and everything that can be done to it."""
