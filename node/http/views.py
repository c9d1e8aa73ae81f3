"""From a read's query parameters to the view of a ledger that it asks for."""

from __future__ import annotations

from typing import TypeVar

from msgspec import UNSET

from node.http.parameters import Query, ReadQuery, ViewQuery, parse_moment
from node.http.problems import Problem
from node.http.route import Call
from node.http.services import Services
from storage.rows import Sealed
from storage.view import View

QueryType = TypeVar("QueryType", bound=Query)


def typed_query(call: Call, kind: type[QueryType]) -> QueryType:
    """The query of a call, as the type its route declares."""
    query = call.parsed_query
    if not isinstance(query, kind):
        raise TypeError(f"route {call.route.operation_id} declares {call.route.query.__name__}")
    return query


async def fresh(services: Services, ledger: str, query: ReadQuery) -> None:
    """Return when the store is as fresh as the reader asks.

    Raises NotLeader, ReadFailed, NotCaughtUp, LedgerUnknown or BlockUnknown. A strong read has the whole
    journal, so that a block it lacks does not exist; only a snapshot read may wait for one.
    """
    if query.consistency == "strong":
        await services.reads.strong()
        if query.min_seq is not UNSET:
            services.store.view(ledger, query.min_seq)
    elif query.min_seq is not UNSET:
        await services.reads.at_least(ledger, query.min_seq)


async def view_for(services: Services, ledger: str, query: ReadQuery) -> View:
    """The view that the query names: now, as of a block, or as of a time."""
    await fresh(services, ledger, query)
    seq = None
    if isinstance(query, ViewQuery):
        seq = _seq_of(services, ledger, query)
        if seq is None and query.as_of is not UNSET:
            raise Problem("not-found", f"ledger {ledger!r} did not exist at that time", field="as_of")
    return services.store.view(ledger, seq)


async def proved_view_for(services: Services, ledger: str, query: ReadQuery) -> tuple[View, Sealed]:
    """As `view_for`, with the newest seal, which covers the view. "Now" is as of that seal.

    Both are good until the next `await`. A time before the ledger began shows its first block, which holds
    nothing. Raises NotSealed when no seal comes in time.
    """
    await fresh(services, ledger, query)
    asked = query if isinstance(query, ViewQuery) else None
    view = services.store.view(ledger, _seq_of(services, ledger, asked) if asked else None)
    sealed = await services.sealing.covering(ledger, view.seq)
    if asked is None or (asked.as_of is UNSET and asked.as_of_seq is UNSET):
        return services.store.view(ledger, sealed.size - 1), sealed
    # Blocks of the same time, or from before a later one, may have come meanwhile.
    seq = _seq_of(services, ledger, asked) or 0
    return services.store.view(ledger, min(seq, sealed.size - 1)), sealed


def _seq_of(services: Services, ledger: str, query: ViewQuery) -> int | None:
    """The block to show; of a block and a time, whichever is earlier. None: now, or before the ledger."""
    asked = None if query.as_of_seq is UNSET else query.as_of_seq
    if query.as_of is UNSET:
        return asked
    seq = services.store.seq_at(ledger, parse_moment("as_of", query.as_of))
    return seq if asked is None or seq is None else min(seq, asked)
