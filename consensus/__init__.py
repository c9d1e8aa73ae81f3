"""Replication: PySyncObj's Raft hardened, its durable log, its asyncio transport, read barriers."""
