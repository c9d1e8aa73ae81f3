"""Zones: which of them a cluster can lose, and which one it cannot do without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from consensus.config import MemberStatus


def zone_loss(members: Iterable[MemberStatus], zone: str) -> str | None:
    """None when the cluster goes on at once if every member in `zone` is lost now; otherwise the reason.

    `members` as the leader sees them. Those outside the zone must be able to elect a leader and to commit: a
    majority of all voters (thesis section 3.4) that are connected, and hold what is committed or nearly so.
    """
    voters = [each for each in members if each.voter]
    quorum = len(voters) // 2 + 1
    outside = [each for each in voters if each.zone != zone]
    if len(outside) < quorum:
        return f"only {len(outside)} of {len(voters)} voters are outside of it; {quorum} are needed"
    down = [each.id for each in outside if not each.connected]
    behind = [each.id for each in outside if each.connected and not each.caught_up]
    if len(outside) - len(down) < quorum:
        return f"outside of it {_named(down)} cannot be reached; {quorum} voters are needed"
    if len(outside) - len(down) - len(behind) < quorum:
        return f"outside of it {_named(behind)} must catch up first; {quorum} voters are needed"
    return None


def zone_majorities(members: Iterable[MemberStatus]) -> tuple[str, ...]:
    """The zones (at most one) that hold a majority of the voters, so that nothing goes on without them."""
    per_zone = Counter(each.zone for each in members if each.voter)
    quorum = per_zone.total() // 2 + 1
    return tuple(zone for zone, count in per_zone.items() if count >= quorum)


def _named(ids: list[str]) -> str:
    return ", ".join(ids)
