"""A witness (https://c2sp.org/tlog-witness): it cosigns checkpoints of logs that only ever grow."""
