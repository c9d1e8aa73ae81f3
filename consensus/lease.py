"""Leader leases for reads (Raft thesis section 6.4.1): no round of messages, at the price of trust in clocks.

A member that has heard its leader elects nobody, itself included, for `election_s_min` of its own clock, even
when the leader's connection is closed, and even after a restart (election.py). So from the start of a round
that a quorum has answered, nobody else can be elected for that long, and this leader's state is the latest.
Its own clock may run slow and theirs fast, by at most the drift allowed; the lease is shorter by as much.

Each answer says for how long its sender keeps this promise, and for a lease only those count that keep it as
long as this leader needs (leader.py). So leases need not be set alike on all members: without a majority
that has them there are rounds, as always. The promise is on disk before it is given, and a member that starts
keeps what it finds there for that long, whatever its settings now say (identity.py).

The promise does not hold against an heir: a leader that gives its place away has no lease for the rest of its
term, since the message that tells its heir to stand may arrive at any time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def microseconds(seconds: float) -> int:
    """As promises are told; never more than is kept."""
    return math.floor(seconds * 1e6)


@dataclass(slots=True)
class Lease:
    """The lease of one leadership; times are of the leader's monotonic clock, in seconds."""

    length_s: float
    renewal_s: float
    until: float = -math.inf
    given_up: bool = False
    _round_began_at: float = -math.inf

    def due(self, now: float) -> bool:
        """Whether to begin a round although nobody waits for one."""
        return not self.given_up and now - self._round_began_at >= self.renewal_s

    def round_begins(self, now: float) -> None:
        """No message of the round has left yet."""
        self._round_began_at = now

    def round_confirmed(self) -> None:
        """A quorum has answered it. What counts is when it began, not when the answers came."""
        self.until = max(self.until, self._round_began_at + self.length_s)

    def holds(self, now: float) -> bool:
        return not self.given_up and now < self.until

    def give_up(self) -> None:
        self.given_up = True
