"""Judges of a history: each is a function of what clients saw and of the journals, and finds anomalies."""
