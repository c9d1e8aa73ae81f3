"""What operators do to a running cluster, and disks that are lost: changes of who belongs to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from chaos.simulation.faults import Weather
from chaos.simulation.node import SimulatedNode
from chaos.simulation.scheduler import Scheduler
from chaos.simulation.violation import Violation
from consensus.errors import ConsensusError, NotLeader, OutcomeUnknown, TooManyProposals, TransferFailed
from consensus.membership import Member, Membership, MembershipRefused
from consensus.raft_core import RaftCore

_NODES_MAX = 8
_VOTERS_MIN = 2
_PROMOTIONS_TRIED = 15


class Everything(Protocol):
    """What operators may lay hands on."""

    scheduler: Scheduler
    weather: Weather
    nodes: list[SimulatedNode]
    counts: Counter[str]
    healed: bool

    def leader(self) -> RaftCore | None: ...
    def new_node(self) -> SimulatedNode: ...
    def node(self, node_id: str) -> SimulatedNode: ...


class Operators:
    """Each act asks once; nobody waits for what comes of it."""

    def __init__(self, world: Everything) -> None:
        self._world = world
        self._rng = world.scheduler.rng
        self.acts: dict[str, Callable[[], None]] = {
            "transfer": self.transfer,
            "add": self._add,
            "promote": self._promote,
            "remove": self._remove,
            "replace": self._replace,
            "lose a disk": self._lose_disk,
        }

    def _ask_leaders(self, request: Callable[[RaftCore], object]) -> None:
        """Of whoever believes to lead."""
        for node in self._world.nodes:
            if node.leads:
                node.ask(partial(self._ask, request))

    def _ask(self, request: Callable[[RaftCore], object], core: RaftCore) -> None:
        with suppress(NotLeader, TransferFailed, TooManyProposals, MembershipRefused):
            request(core)

    # Leadership.

    def transfer(self) -> None:
        """To somebody, to who applied least, or to whom the leader chooses; what comes of it is not
        foreseen."""
        nodes = self._world.nodes
        behind = min(nodes, key=lambda node: node.core.applied_index if node.core else 1 << 60)
        target_id = self._rng.choice((behind.id, None, self._rng.choice(nodes).id))
        self._ask_leaders(lambda core: core.transfer(target_id, _Told(self._world.counts, "transferred")))

    # Membership.

    def _membership(self) -> Membership:
        leader = self._world.leader()
        return Membership() if leader is None else leader.membership

    def _add(self) -> None:
        """A new node, one that was started for it before, or one that was removed, which must be refused."""
        membership = self._membership()
        strangers = [node for node in self._world.nodes if node.id not in membership.ids]
        if not membership.members or (len(self._world.nodes) >= _NODES_MAX and not strangers):
            return
        if len(self._world.nodes) < _NODES_MAX and (not strangers or self._rng.random() < 0.5):
            node = self._world.new_node()
        else:
            node = self._rng.choice(strangers)
        number = self._world.nodes.index(node)
        member = Member(node.id, "zone", "host", number)
        told = _Told(self._world.counts, "added", partial(self._promote_soon, node.id, _PROMOTIONS_TRIED))
        self._ask_leaders(lambda core: core.add_learner(member, told))

    def _promote_soon(self, node_id: str, tries: int) -> None:
        """Mostly it gets its vote as soon as it has caught up."""
        self._world.scheduler.after(self._rng.uniform(0.02, 0.3), lambda: self._try_promotion(node_id, tries))

    def _try_promotion(self, node_id: str, tries: int) -> None:
        member = self._membership().get(node_id)
        if tries and not self._world.healed and (member is None or not member.voter):
            self._ask_leaders(partial(self._give_a_vote, node_id))
            self._promote_soon(node_id, tries - 1)

    def _promote(self) -> None:
        for learner in self._membership().learners:
            self._ask_leaders(partial(self._give_a_vote, learner.id))

    def _give_a_vote(self, node_id: str, core: RaftCore) -> None:
        core.promote(node_id, _Told(self._world.counts, "promoted"))

    def _remove(self) -> None:
        membership = self._membership()
        if membership.members and len(membership.voters) > _VOTERS_MIN:
            removed = self._rng.choice(membership.members).id
            self._ask_leaders(partial(self._take_away, removed))

    def _take_away(self, node_id: str, core: RaftCore) -> None:
        """Not while another voter's disk is gone and its last answer is so young that no leader can know: one
        that lives less may then be one too few, which no replication survives either."""
        for each in core.membership.voters:
            lost = each.incarnation not in (b"", self._world.node(each.id).incarnation)
            heard_s = core.last_heard_s(each.id) if lost and each.id != node_id else None
            if heard_s is not None and heard_s <= self._world.weather.timing.leader_fallback_s:
                return
        core.remove(node_id, _Told(self._world.counts, "removed"))

    def _replace(self) -> None:
        """Everything at once; all but one is refused, or must wait."""
        for act in self._rng.sample((self._add, self._promote, self._remove, self._remove), 4):
            act()

    # Disks.

    def _lose_disk(self) -> None:
        """Only when everybody else has his: more than that no replication survives.

        That is so when the membership names the disks that are there, everybody is up, and has what is
        committed; a second disk may go once the first is replaced. Before the first membership entry nobody's
        is named, and one may be lost.
        """
        leader = self._world.leader()
        if leader is None or len(leader.membership.voters) < 3 or not leader.membership_committed:
            return
        members = [self._world.node(each.id) for each in leader.membership.voters]
        named = {each.id: each.incarnation for each in leader.membership.voters}
        for node in members:
            core = node.core
            if core is None or core.log.synced_index < leader.commit_index:
                return
            if core.membership_index != leader.membership_index:
                return
            if core.incarnation != named[node.id] and (named[node.id] or self._world.counts["disks lost"]):
                return
        self._rng.choice(members).lose_disk()
        self._world.counts["disks lost"] += 1


@dataclass(slots=True)
class _Told:
    """The completion of what an operator asked for, which counts what came of it."""

    counts: Counter[str]
    what: str
    then: Callable[[], None] = lambda: None
    told: bool = False

    def done(self) -> bool:
        return self.told

    def set_result(self, result: object) -> None:
        self.told = True
        self.counts[self.what] += 1
        self.then()

    def set_exception(self, error: ConsensusError) -> None:
        if not isinstance(error, TransferFailed | OutcomeUnknown):
            raise Violation(f"an operator was told {error!r}")
        self.told = True
