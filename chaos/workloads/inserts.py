"""Documents that are inserted once, by requests that are sent again and again under one Idempotency-Key."""

from __future__ import annotations

from chaos.history import Write
from chaos.workloads.client import TABLE, Client, Request, document_path

_REPEATS = 2


async def insert(client: Client, key: str, data: dict[str, object]) -> None:
    """Only if there is none yet; then once more at other nodes, whose answers must be the first one's."""
    repeat_key = client.new_repeat_key()
    request = Request("PUT", document_path(key), data, {"If-None-Match": "*"})
    writes = (Write(TABLE, key, data),)
    first = await client.write("insert", writes, request, repeat_key=repeat_key)
    if first.outcome == "refused":
        return  # Certainly not done: sent again it would be a new request.
    for _ in range(_REPEATS):
        client.another_endpoint()
        await client.write("repeat", writes, request, repeat_key=repeat_key)
