"""Faults on purpose: what a Stele cluster does when the world around it fails."""
