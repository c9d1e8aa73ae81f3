"""An auditor: replays a journal from a copy of its own, and follows it as it grows."""
