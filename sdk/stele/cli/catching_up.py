"""Waiting until a learner has caught up, with its lag on standard error."""

from __future__ import annotations

import sys
from time import monotonic, sleep

from stele.cli.exits import complain
from stele.cli.progress import Bar, progress_bar
from stele.client import BlockingClient, Conflict, MemberInfo, MemberStatus, NotFound, Unavailable

WAIT_S_DEFAULT = 3600.0
POLL_S = 0.5
REPORT_S = 10.0
"""Where there is no bar, because standard error is no terminal, a line is written this often."""


def promote_when_caught_up(client: BlockingClient, member_id: str, wait_s: float) -> MemberInfo:
    """Waits, then promotes; a voter stays one. Raises Unavailable after `wait_s`, and NotFound."""
    deadline_s = monotonic() + wait_s
    while True:
        wait_until_caught_up(client, member_id, deadline_s - monotonic())
        try:
            member = client.promote_member(member_id)
        except Conflict as error:
            # It fell behind again in the moment between.
            slug = None if error.problem is None else error.problem.slug
            if slug != "member-not-caught-up" or monotonic() > deadline_s:
                raise
            sleep(POLL_S)
        else:
            complain(f"{member_id} is a voter")
            return member


def wait_until_caught_up(client: BlockingClient, member_id: str, wait_s: float) -> None:
    """Returns when the leader calls it caught up. Raises Unavailable after `wait_s`, and NotFound."""
    deadline_s = monotonic() + wait_s
    with progress_bar(f"{member_id} catches up", "entries", total=1.0) as bar:
        shown = _Shown(bar)
        while True:
            member = _look(client, member_id)
            if member is not None and (member.voter or member.caught_up):
                return
            if monotonic() > deadline_s:
                state = "the cluster has no leader" if member is None else _state_of(member)
                raise Unavailable(
                    f"{member_id} has not caught up within {wait_s:.0f} s: {state}; it stays a learner, and "
                    "the same command goes on with it"
                )
            shown.update(member)
            sleep(POLL_S)


def _look(client: BlockingClient, member_id: str) -> MemberStatus | None:
    """As the leader sees it; None when no leader answers for now. Raises NotFound."""
    try:
        member = client.cluster(consistency="strong").member(member_id)
    except Unavailable:
        return None
    if member is None:
        raise NotFound(f"there is no member {member_id!r}")
    return member


class _Shown:
    """What has been told about a learner's progress."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._first: int | None = None
        self._again_s = 0.0

    def update(self, member: MemberStatus | None) -> None:
        if member is not None and member.match_index is not None and member.lag is not None:
            self._first = member.match_index if self._first is None else self._first
            done, missing = member.match_index - self._first, member.lag
            self._bar.update(done, completed=done / (done + missing) if done + missing else 1.0)
        if not sys.stderr.isatty() and monotonic() >= self._again_s:
            self._again_s = monotonic() + REPORT_S
            complain("no leader answers; waiting" if member is None else _line(member))


def _line(member: MemberStatus) -> str:
    return f"{member.id}: {_state_of(member)}"


def _state_of(member: MemberStatus) -> str:
    if not member.connected:
        return "not connected (does it run, with join = true and a certificate of its own?)"
    if member.snapshotting:
        return "a snapshot is on its way to it"
    return "connected" if member.lag is None else f"{member.lag:,} entries behind"
