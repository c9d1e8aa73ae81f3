"""When to send a request again, and after how long. The waiting itself is stamina's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import aiohttp
import stamina

from stele.client.errors import SteleError, Unavailable
from stele.client.limits import (
    RETRY_AFTER_S_MAX,
    RETRY_WAIT_INITIAL_S,
    RETRY_WAIT_JITTER_S,
    RETRY_WAIT_MAX_S,
)

CONNECTION_ERRORS = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError, TimeoutError)
"""What means "the connection failed", not "the server said no". A body cut short is a payload error."""

NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""The connection was not made: nothing of the request has left."""


class RetryLater(Exception):
    """A retryable error together with the server's Retry-After, in seconds."""

    def __init__(self, error: SteleError, after_s: float) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = min(max(after_s, 0.0), RETRY_AFTER_S_MAX)


def backoff(error: Exception) -> bool | float:
    """stamina's hook: False to give up, True for the usual growing wait, or the seconds to wait."""
    if isinstance(error, RetryLater):
        return error.after_s
    if isinstance(error, SteleError):
        return error.retryable
    return isinstance(error, CONNECTION_ERRORS)


def never(error: Exception) -> bool:
    """The hook for requests that must be sent once."""
    return False


def attempts(timeout_s: float, *, repeat: bool = True) -> AsyncIterator[stamina.Attempt]:
    """Attempts of one request until `timeout_s` has passed; only one unless `repeat`."""
    return aiter(
        stamina.retry_context(
            on=backoff if repeat else never,
            attempts=None,
            timeout=timeout_s,
            wait_initial=RETRY_WAIT_INITIAL_S,
            wait_max=RETRY_WAIT_MAX_S,
            wait_jitter=RETRY_WAIT_JITTER_S,
        )
    )


def retry_after_s(header: str | None) -> float | None:
    """The seconds of a Retry-After header (RFC 9110 section 10.2.3); None when absent or a date."""
    if header is None or not header.strip().isdigit():
        return None
    return float(header.strip()[:6])


def final_error(error: Exception) -> SteleError:
    """What the caller sees once no attempt is left."""
    if isinstance(error, RetryLater):
        return error.error
    if isinstance(error, SteleError):
        return error
    if isinstance(error, TimeoutError):
        return Unavailable("no answer in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        reason = os.strerror(number) if number else str(error.os_error)
        return Unavailable(f"no node could be reached: {error.host}:{error.port}: {reason}")
    return Unavailable(f"no node could be reached: {str(error) or type(error).__name__}")
