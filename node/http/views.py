"""From a read's query parameters to the view of a ledger that it asks for."""

from __future__ import annotations

from typing import TypeVar

from msgspec import UNSET

from node.http.parameters import Query, ReadQuery, ViewQuery, parse_moment
from node.http.problems import Problem
from node.http.route import Call
from node.http.services import Services
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
    return services.store.view(ledger, seq)


def _seq_of(services: Services, ledger: str, query: ViewQuery) -> int | None:
    """The block to show; of a block and a time, whichever is earlier."""
    asked = None if query.as_of_seq is UNSET else query.as_of_seq
    if query.as_of is UNSET:
        return asked
    seq = services.store.seq_at(ledger, parse_moment("as_of", query.as_of))
    if seq is None:
        raise Problem("not-found", f"ledger {ledger!r} did not exist at that time", field="as_of")
    return seq if asked is None else min(seq, asked)
