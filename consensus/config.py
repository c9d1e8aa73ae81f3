"""What a replica is told, and what it tells about itself."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from consensus import limits
from consensus.membership import Member, Membership


class Role(enum.IntEnum):
    """Raft's three roles, numbered as PySyncObj numbers them (a test compares)."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2


@dataclass(frozen=True, slots=True)
class Peer:
    """One server of the cluster. `host` and `port` are where the others dial it; `http` as in Member."""

    id: str
    host: str
    port: int
    zone: str = ""
    http: str = ""


class Address(NamedTuple):
    """Where a server is dialled."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Raft's clocks, in seconds.

    An election timeout must be well above a heartbeat and the time a synced write takes (Raft thesis
    section 3.9). `leader_fallback_s` is check-quorum (section 6.2): a leader that a majority has not
    answered for this long steps down. `hastened_s_min` to `hastened_s_max` is the random time before a
    member stands that need not wait for a timeout: the leader's process has ended, or votes were split.
    Raises ValueError when the numbers cannot work together.

    The defaults let a cluster whose machines are short of processors keep its leader; a leader that is
    silent, but not known to be dead, is replaced within about two seconds.
    """

    heartbeat_s: float = 0.1
    election_s_min: float = 1.0
    election_s_max: float = 2.0
    leader_fallback_s: float = 2.0
    hastened_s_min: float = 0.02
    hastened_s_max: float = 0.15
    tick_s: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.tick_s <= self.heartbeat_s:
            raise ValueError("tick_s must be positive and at most heartbeat_s")
        if not 3 * self.heartbeat_s < self.election_s_min < self.election_s_max:
            raise ValueError("3 * heartbeat_s < election_s_min < election_s_max must hold")
        if not 0 < self.hastened_s_min < self.hastened_s_max <= self.election_s_min:
            raise ValueError("0 < hastened_s_min < hastened_s_max <= election_s_min must hold")
        if self.leader_fallback_s < self.election_s_min:
            raise ValueError("leader_fallback_s must not be below election_s_min")


@dataclass(frozen=True, slots=True)
class ReadLease:
    """Reads without a round (lease.py), while a majority of the members has this.

    `clock_drift_max_ppm` bounds by how much any member's monotonic clock runs faster or slower than time, in
    millionths. Raises ValueError.
    """

    clock_drift_max_ppm: int = limits.CLOCK_DRIFT_MAX_PPM

    def __post_init__(self) -> None:
        if not 0 <= self.clock_drift_max_ppm < 1_000_000:
            raise ValueError("clock_drift_max_ppm must be at least 0 and below 1,000,000")

    def length_s(self, election_s_min: float) -> float:
        """`election_s_min` on the fastest clock, as the slowest one counts it."""
        drift = self.clock_drift_max_ppm / 1e6
        return election_s_min * (1 - drift) / (1 + drift)


@dataclass(frozen=True, slots=True)
class CatchUp:
    """How members that lag are brought up. `rate_bytes_s` bounds what a leader sends them, over all, besides
    what is new; entries are kept for them up to `log_retained_size_bytes`. Raises ValueError."""

    rate_bytes_s: int = limits.CATCH_UP_RATE_BYTES_S
    log_retained_size_bytes: int = limits.LOG_RETAINED_SIZE_BYTES_MAX

    def __post_init__(self) -> None:
        if self.rate_bytes_s <= 0 or self.log_retained_size_bytes <= 0:
            raise ValueError("rate_bytes_s and log_retained_size_bytes must be positive")


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """One member of one Raft group. `peers` lists the servers, this one included.

    They are the voters of a cluster whose log is empty; from its first entry on, the log says who is a member
    (membership.py), and `peers` are only further addresses to dial and to accept. With `join` they never are
    more than that: a server with an empty log then waits until a leader has added it.

    `listen_host` and `listen_port` default to this server's entry in `peers`. Raises ValueError.
    """

    cluster: str
    node_id: str
    peers: tuple[Peer, ...]
    timing: Timing = field(default_factory=Timing)
    catch_up: CatchUp = field(default_factory=CatchUp)
    read_lease: ReadLease | None = None
    listen_host: str | None = None
    listen_port: int | None = None
    join: bool = False

    def __post_init__(self) -> None:
        ids = [peer.id for peer in self.peers]
        if self.node_id not in ids:
            raise ValueError(f"node {self.node_id!r} is not one of the peers")
        if len(set(ids)) != len(ids):
            raise ValueError("two peers have the same id")
        if len(ids) > limits.MEMBERS_MAX:
            raise ValueError(f"{len(ids)} peers; at most {limits.MEMBERS_MAX} are allowed")
        if not all(0 < len(peer_id) <= limits.NODE_ID_LENGTH_MAX for peer_id in ids):
            raise ValueError(f"a peer id has 1 to {limits.NODE_ID_LENGTH_MAX} characters")

    @property
    def self_peer(self) -> Peer:
        return next(peer for peer in self.peers if peer.id == self.node_id)

    @property
    def bootstrap(self) -> Membership:
        """The membership of an empty log."""
        if self.join:
            return Membership()
        members = [Member(peer.id, peer.zone, peer.host, peer.port, peer.http) for peer in self.peers]
        return Membership(tuple(sorted(members, key=lambda each: each.id)))

    def addresses(self, *memberships: Membership) -> dict[str, Address]:
        """Where to dial the others: the members of `memberships`, and the peers who are not retired in them.

        A peer's address counts before a member's: it is what somebody has written down for this very node,
        and the only one that can be corrected when a server has moved.
        """
        found = {each.id: Address(each.host, each.port) for known in memberships for each in known.members}
        retired = {each for known in memberships for each in known.retired}
        for peer in self.peers:
            if peer.id in found or peer.id not in retired:
                found[peer.id] = Address(peer.host, peer.port)
        found.pop(self.node_id, None)
        return found


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member as this node sees it.

    Known to the leader only, and otherwise None or False: `match_index`, the last entry that it is known to
    hold; `caught_up`, whether that is near enough to the end of the log for a vote; `last_heard_s`, the
    seconds since it last answered (0 for the leader itself); `snapshotting`, whether it is sent a snapshot.
    """

    id: str
    zone: str
    match_index: int | None
    connected: bool
    voter: bool = True
    caught_up: bool = False
    last_heard_s: float | None = None
    snapshotting: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A replica at one moment.

    `membership_index` is the entry that says who the `members` are, 0 for the peers of an empty log;
    `change_pending`, whether that entry is not yet known to be committed.
    """

    node_id: str
    role: Role
    term: int
    leader_id: str | None
    commit_index: int
    applied_index: int
    first_index: int
    last_index: int
    members: tuple[MemberStatus, ...]
    membership_index: int = 0
    change_pending: bool = False
