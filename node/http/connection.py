"""One connection of a client: what aiohttp leaves open about its beginning, its end and what is no HTTP."""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from node import limits
from node.http.problems import SERVER, Problem

_log = structlog.get_logger("node.http")


class Connection(web.RequestHandler):
    """Answers what is not HTTP with a problem, too, and clients that have stopped sending but still read.

    A connection that sends no whole request head in time is closed: aiohttp itself watches over kept-alive
    ones only, and would keep one that says nothing, or a byte a minute, for ever.
    """

    __slots__ = ("_first_request_timer", "_was_paused")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._was_paused = False
        super().connection_made(transport)
        self._first_request_timer = self._loop.call_later(limits.KEEPALIVE_TIMEOUT_S, self._end_if_unused)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._first_request_timer.cancel()
        super().connection_lost(exc)

    def pause_reading(self) -> None:
        self._was_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp asks for it twice a body, and parses again each time, even where nothing was paused."""
        if self._was_paused:
            super().resume_reading(resume_parser)

    def _end_if_unused(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has closed its half of the connection (RFC 9112, section 9.6).

        What it has sent is answered, and a body of which a part is missing with a problem; then the
        connection is closed. aiohttp would close it at once. True keeps it open.
        """
        if self._request_count == 0 or (self._waiter is not None and not self._messages):
            return False
        self._finish_after_eof()
        return True

    def _finish_after_eof(self) -> None:
        if self.transport is None:
            return
        if self._messages or (self._waiter is None and self._current_request is None):
            # A request waits for those before it, is about to be handled, or is being answered.
            self._loop.call_later(limits.HALF_CLOSED_POLL_S, self._finish_after_eof)
        elif self._current_request is None:
            self.force_close()
        else:
            self._end_body(self._current_request)
            self.close()

    def _end_body(self, request: web.BaseRequest) -> None:
        """Tell the request's reader when its body will never be complete."""
        if request.content.is_eof() or self._parser is None:
            return
        try:
            self._parser.feed_eof()
        except HttpProcessingError as error:
            request.content.set_exception(error)
            request.content.feed_eof()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer broke off")
        if isinstance(exc, HttpProcessingError) or status == 400:
            problem = Problem("bad-request", _first_sentence(message or str(exc)))
        else:
            _log.error("a connection failed", exc_info=exc)
            problem = Problem("internal-error", "the server failed")
        response = problem.response("")
        response.headers["Server"] = SERVER
        response.force_close()
        return response


def _first_sentence(message: str) -> str:
    return message.strip().split("\n", 1)[0].rstrip(":") or "not HTTP"
