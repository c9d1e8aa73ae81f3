"""The HTTP service of a witness: POST /add-checkpoint (https://c2sp.org/tlog-witness)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

from stele.format.cosignature import Cosigner
from stele.verify.errors import Malformed
from stele.verify.limits import ADD_CHECKPOINT_SIZE_BYTES_MAX
from stele.verify.note import VerifierKey, split_note
from stele.verify.witness import SIZE_MEDIA_TYPE, AddCheckpoint, NotCosigned, judge, origin_of
from stele.witness.records import Records

_logger = logging.getLogger("stele.witness")


class WitnessService:
    """Cosigns, for each known log, only what extends what it cosigned before.

    `logs` are keys whose names are the logs' origins. `now_s` is the clock, in POSIX seconds.
    """

    def __init__(
        self,
        cosigner: Cosigner,
        logs: Sequence[VerifierKey],
        records: Records,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._cosigner = cosigner
        self._logs: Mapping[str, list[VerifierKey]] = {
            key.name: [other for other in logs if other.name == key.name] for key in logs
        }
        self._records = records
        self._now_s = now_s

    def application(self) -> web.Application:
        """The application, to be served at the submission prefix."""
        application = web.Application(client_max_size=ADD_CHECKPOINT_SIZE_BYTES_MAX)
        application.router.add_post("/add-checkpoint", self._handle)
        return application

    def add_checkpoint(self, body: bytes) -> str:
        """The cosignature line for a request's checkpoint. Raises NotCosigned."""
        try:
            request = AddCheckpoint.parse(body)
        except Malformed as error:
            raise NotCosigned(400, str(error)) from None
        origin = origin_of(request)
        # Nothing is awaited between comparing and storing, so that no other request comes in between; the
        # disk is waited for here, and with it every other request.
        known = self._records.latest(origin) if origin in self._logs else None
        checkpoint = judge(request, self._logs, known)
        self._records.keep(origin, request.note)
        text = split_note(request.note)[0]
        extensions = "".join(text.splitlines(keepends=True)[3:])
        size, root, now_s = checkpoint.size, checkpoint.root, int(self._now_s())
        return self._cosigner.cosign(origin, size, root, now_s, extensions)

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            line = self.add_checkpoint(await request.read())
        except NotCosigned as refused:
            _logger.warning("not cosigned (%d): %s", refused.status, refused)
            if refused.size is not None:
                headers = {"Content-Type": SIZE_MEDIA_TYPE}
                return web.Response(status=refused.status, body=f"{refused.size}\n".encode(), headers=headers)
            return web.Response(status=refused.status, text=f"{refused}\n")
        return web.Response(text=line)
