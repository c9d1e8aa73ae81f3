"""Clients of the laboratory: what they ask for, and how they write down what they saw."""
