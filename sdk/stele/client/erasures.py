"""Erasure: the content of revisions removed for good, and how far each replica is with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from stele.client.access import LedgerAccess, new_idempotency_key
from stele.client.encoding import encode_json
from stele.client.models import Erasure
from stele.client.transport import Request


class Erasures(LedgerAccess):
    """Erasing, and watching it."""

    async def erase(
        self,
        table: str,
        key: str,
        versions: Sequence[int] | Literal["all"],
        *,
        reason: str,
        idempotency_key: str | None = None,
    ) -> Erasure:
        """Erases the content of these revisions of a document, on every replica and for good.

        `table` may be the id of a dropped table ("books@1"). `reason` stands in the journal for ever. The
        erasure is in force when this returns; `erasure` says when nothing is left on any disk.

        Raises Conflict (already erased, or not allowed by the cluster), Invalid, NotFound, OutcomeUnknown.
        """
        wanted = versions if isinstance(versions, str) else list(versions)
        body = encode_json({"table": table, "key": key, "versions": wanted, "reason": reason})
        repeat_key = idempotency_key or new_idempotency_key()
        request = Request("POST", self.path + "/erasures", body=body, idempotency_key=repeat_key)
        made = (await self._call(request)).decode(Erasure)
        self.note_written(made.seq)
        return made

    async def erasure(self, seq: int) -> Erasure:
        """The erasure that block `seq` is, and how far each replica is with it. Raises NotFound."""
        return await self._get(f"/erasures/{seq}", Erasure)
