"""Who makes the faults happen, at times and to nodes drawn from the seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from chaos.simulation.disk import Fate
from chaos.simulation.faults import FAULTS, Weather
from chaos.simulation.network import Network
from chaos.simulation.node import SimulatedNode
from chaos.simulation.operators import Everything as Cluster
from chaos.simulation.operators import Operators

_SLOW_SYNC_S_MAX = 0.3
_HOLD_S_MAX = 1.5
_REIGN_S_MAX = 0.06
_QUICK_RESTART_S = 0.005


class Everything(Cluster, Protocol):
    """What the nemesis may lay hands on."""

    network: Network
    ids: list[str]

    def block(self, links: Iterable[tuple[str, str]]) -> None: ...


class Nemesis:
    """Plans one fault after the other until it is stopped."""

    def __init__(self, world: Everything, weather: Weather) -> None:
        self._world = world
        self._weather = weather
        self._scheduler = world.scheduler
        self._rng = world.scheduler.rng
        self._stopped = False
        self._operators = Operators(world)
        self._acts: dict[str, Callable[[], None]] = {
            "isolate": self._isolate,
            "split": self._split,
            "cut one way": lambda: self._cut(both_ways=False),
            "cut a link": lambda: self._cut(both_ways=True),
            "bridge": self._bridge,
            "hold back": self._hold_back,
            "heal": self._heal,
            "crash": lambda: self._victim().crash(power_lost=False),
            "power cut": lambda: self._victim().crash(power_lost=True),
            "crash at a write": lambda: self._doom(Fate.POWER_LOST),
            "fail a sync": lambda: self._doom(Fate.FAILED),
            "slow disk": self._slow_disk,
            "pause": lambda: self._victim().pause(self._rng.uniform(0.02, 1.5)),
            "all lose power": self._all_lose_power,
            "crash after a vote": self._doom_a_voter,
            "fell new leaders": self._doom_leaders,
            **self._operators.acts,
        }
        self._votes_until_crash = 0
        self._leaders_to_fell = 0
        self._plan()

    def stop(self) -> None:
        """Ends all faults; nodes that are down come up by themselves."""
        self._stopped = True
        self._votes_until_crash = self._leaders_to_fell = 0
        self._world.network.calm()
        self._world.block(())
        for node in self._world.nodes:
            node.writes_until_fate = 0
            node.fate_after_deletion = False
            node.sync_s_max = 0.001

    def _plan(self) -> None:
        self._scheduler.after(self._rng.expovariate(self._weather.faults_per_s), self._act)

    def _act(self) -> None:
        if self._stopped:
            return
        if any(self._weather.weights):
            (kind,) = self._rng.choices(FAULTS, self._weather.weights)
            self._world.counts[kind] += 1
            self._scheduler.note("nemesis", kind)
            self._acts[kind]()
        self._plan()

    def _victim(self) -> SimulatedNode:
        leading = [node for node in self._world.nodes if node.leads]
        if leading and self._rng.random() < self._weather.aim_at_leader:
            return leading[-1]
        return self._rng.choice(self._world.nodes)

    # The network.

    def _isolate(self) -> None:
        self._separate({self._victim().id})

    def _split(self) -> None:
        self._separate(set(self._rng.sample(self._world.ids, len(self._world.ids) // 2)))

    def _separate(self, some: set[str]) -> None:
        ids = self._world.ids
        self._world.block((a, b) for a in ids for b in ids if (a in some) != (b in some))

    def _cut(self, *, both_ways: bool) -> None:
        """One link more, so that a partial partition grows."""
        victim = self._victim().id
        others = [each for each in self._world.ids if each != victim]
        if not others:
            return  # A cluster of one has no links.
        other = self._rng.choice(others)
        cut = {(victim, other), (other, victim)} if both_ways else {(victim, other)}
        if not both_ways and self._rng.random() < 0.5:
            cut = {(other, victim)}
        self._world.block(self._world.network.blocked | cut)

    def _bridge(self) -> None:
        """One node sees all others; they are two halves that do not see each other."""
        first, *rest = self._rng.sample(self._world.ids, len(self._world.ids))
        half = set(rest[: len(rest) // 2])
        self._world.block((a, b) for a in rest for b in rest if (a in half) != (b in half))
        self._scheduler.note("network", first, "is the bridge")

    def _hold_back(self) -> None:
        """What a node sends waits, to one other or to all, and comes when much has changed."""
        victim, until = self._victim().id, self._scheduler.now + self._rng.uniform(0.1, _HOLD_S_MAX)
        others = [each for each in self._world.ids if each != victim]
        for other in others if self._rng.random() < 0.5 else others[:1]:
            self._world.network.held_until[victim, other] = until

    def _heal(self) -> None:
        """Sometimes who comes back is to lead at once, with everything still to be applied."""
        self._world.block(())
        if self._rng.random() < 0.3:
            self._scheduler.after(self._rng.uniform(0.0, 0.1), self._operators.transfer)

    # Nodes and disks.

    def _doom(self, fate: Fate) -> None:
        node = self._victim()
        node.next_fate = fate
        node.writes_until_fate = self._rng.choice((1, 1, 2, 5, 20))
        if self._rng.random() < 0.4:
            node.fate_after_deletion, node.writes_until_fate = True, self._rng.choice((1, 2))
        self._scheduler.note(node.id, f"{fate.value} at write", node.writes_until_fate)

    def _slow_disk(self) -> None:
        node = self._victim()
        node.sync_s_max, before = self._rng.uniform(0.02, _SLOW_SYNC_S_MAX), node.sync_s_max

        def recover() -> None:
            node.sync_s_max = min(before, node.sync_s_max)

        self._scheduler.after(self._rng.uniform(0.2, 1.0), recover)

    def _all_lose_power(self) -> None:
        for node in self._world.nodes:
            node.crash(power_lost=True)

    def _doom_a_voter(self) -> None:
        """Whoever grants one of the next votes goes down as the vote leaves, and is soon asked again."""
        self._votes_until_crash = self._rng.choice((1, 1, 2, 3))

    def voted(self, node: SimulatedNode) -> None:
        """`node` has granted a vote."""
        if self._votes_until_crash:
            self._votes_until_crash -= 1
            if not self._votes_until_crash:
                power_lost = self._rng.random() < 0.5
                self._scheduler.after(0.0, lambda: node.crash(power_lost=power_lost))
                self._scheduler.after(_QUICK_RESTART_S, node.start)

    def _doom_leaders(self) -> None:
        """The next leaders go down, or are cut off, before much has come of them (thesis, figure 3.7)."""
        self._leaders_to_fell = self._rng.choice((1, 3))

    def elected(self, node: SimulatedNode) -> None:
        """`node` leads."""
        if self._leaders_to_fell:
            self._leaders_to_fell -= 1
            falls: tuple[Callable[[], None], ...] = (
                lambda: node.crash(power_lost=True),
                lambda: node.pause(self._rng.uniform(0.3, 1.5)),
                lambda: self._separate({node.id}),
            )
            self._scheduler.after(self._rng.uniform(0.0, _REIGN_S_MAX), self._rng.choice(falls))
