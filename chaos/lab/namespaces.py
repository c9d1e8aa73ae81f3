"""A network of Linux network namespaces: one host a node, a bridge between them, nftables for the faults.

Everything happens inside namespaces that `enter` makes for this process, so nothing of the machine's own
network is touched, no root is needed where user namespaces are allowed, and it all ends with the process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence

from chaos.lab.commands import run
from chaos.lab.network import CLIENTS, Link, Shape, Told, between_zones
from chaos.lab.relay import Rule
from chaos.lab.relay_process import RelayProcess

_BRIDGE = "br0"
_TABLE = "bridge stele_lab"
_CLIENTS_ADDRESS = "10.77.0.1"
_INSIDE = "STELE_LAB_NAMESPACE"
_TOOLS = ("unshare", "mount", "ip", "nft")
_PROBE_TIMEOUT_S = 60.0


def _unshare() -> list[str]:
    # Real root keeps its rights over disks (loop mounts); everybody else becomes root of a user namespace.
    return ["unshare", "-nm"] if os.geteuid() == 0 else ["unshare", "-Urnm"]


def available() -> str | None:
    """None when namespaces can be made here, else why not. Puts the folders of ip and nft on the PATH."""
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    script = "mount -t tmpfs tmpfs /run && ip link add br0 type bridge && nft add table bridge probe"
    probe = subprocess.run(
        [*_unshare(), "sh", "-c", script], capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False
    )
    return None if probe.returncode == 0 else probe.stderr.decode(errors="replace").strip()


def inside() -> bool:
    return _INSIDE in os.environ


def enter(module: str = "chaos") -> None:
    """Starts `module` again, with the same arguments, inside namespaces of its own. Does not return."""
    environment = {**os.environ, _INSIDE: "1"}
    again = [sys.executable, "-m", module, *sys.argv[1:]]
    # `ip netns exec` gives each node a copy of all mounts. Shared ones go there, too, when they are unmounted
    # here; without that, disks whose power was cut would live on in the copies of the other nodes.
    script = 'mount --make-rshared / && mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"'
    command = [*_unshare(), "sh", "-c", script, "sh", *again]
    os.execvpe(command[0], command, environment)


class Namespaces:
    """`zones` maps each node to its zone; every zone has a subnet of its own, and between them frames take
    `latency_s`. Satisfies Network.

    Distance has a relay of its own, so that the other one tells of faults only. Links under a fault have no
    distance.
    """

    def __init__(self, zones: Mapping[str, str], latency_s: float = 0.0) -> None:
        if not inside():
            raise RuntimeError("call enter() first: the machine's own network is not ours to change")
        self._zone_of = dict(zones)
        self._distance = Shape(delay_s=latency_s)
        self._zones = sorted(set(zones.values()))
        self._addresses: dict[str, str] = {}
        for node_id, zone in zones.items():
            self._give_address(node_id, zone)
        self._blocked: tuple[Link, ...] = ()
        self._lossy: tuple[tuple[Link, int], ...] = ()
        self._shaped: tuple[Link, ...] = ()
        self._shape = Shape()
        self._told = Told()
        self._macs: dict[str, str] = {}
        self._relay = RelayProcess()
        self._distance_relay = RelayProcess()

    async def start(self) -> None:
        await run("ip", "link", "add", _BRIDGE, "type", "bridge")
        await run("ip", "addr", "add", f"{_CLIENTS_ADDRESS}/16", "dev", _BRIDGE)
        await run("ip", "link", "set", _BRIDGE, "up")
        for node_id in self._zone_of:
            await self._connect(node_id)
        await self._write_rules()

    def _give_address(self, node_id: str, zone: str) -> None:
        self._addresses[node_id] = f"10.77.{self._zones.index(zone) + 1}.{len(self._addresses) + 1}"

    async def add(self, node_id: str, zone: str) -> None:
        self._give_address(node_id, zone)
        await self._connect(node_id)
        self._zone_of[node_id] = zone
        await self._write_rules()

    async def _connect(self, node_id: str) -> None:
        outside = _interface(node_id)
        await run("ip", "netns", "add", node_id)
        await run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", node_id)
        await run("ip", "link", "set", outside, "master", _BRIDGE, "up")
        await run("ip", "-n", node_id, "addr", "add", f"{self._addresses[node_id]}/16", "dev", "eth0")
        await run("ip", "-n", node_id, "link", "set", "eth0", "up")
        await run("ip", "-n", node_id, "link", "set", "lo", "up")
        (shown,) = json.loads(await run("ip", "-n", node_id, "-j", "link", "show", "eth0"))
        self._macs[node_id] = shown["address"]

    async def stop(self) -> None:
        """The namespaces end with this process; until then the links stay whole."""
        await self.block(())
        await self._relay.stop()
        await self._distance_relay.stop()

    def address(self, node_id: str) -> str:
        return self._addresses[node_id]

    def dial(self, source: str, target: str) -> str:
        return self.address(target)

    def command(self, node_id: str, command: list[str]) -> list[str]:
        return ["ip", "netns", "exec", node_id, *command]

    async def block(self, links: Iterable[Link]) -> None:
        self._blocked = tuple(links)
        await self._write_rules()

    async def lose(self, links: Iterable[Link], percent: int) -> None:
        self._lossy = tuple((link, percent) for link in links)
        await self._write_rules()

    @property
    def reorders(self) -> bool:
        return True

    async def shape(self, links: Iterable[Link], shape: Shape) -> None:
        self._shaped, self._shape = tuple(links), shape
        await self._rule()
        self._told = Told()
        await self._write_rules()

    async def _rule(self) -> Told:
        """What the relay has done since it was last asked."""
        return await self._relay.rule(self._rules(self._shaped, self._shape))

    def _rules(self, links: Iterable[Link], shape: Shape) -> list[Rule]:
        return [
            Rule(_interface(source), _interface(target), self._macs[target], shape)
            for source, target in links
        ]

    def _distant(self) -> list[Link]:
        if not self._distance.delay_s:
            return []
        faulty = {*self._blocked, *(link for link, _ in self._lossy), *self._shaped}
        return [link for link in between_zones(self._zone_of) if link not in faulty]

    async def told(self) -> Told:
        self._told = self._told.plus(await self._rule())
        return self._told

    async def _write_rules(self) -> None:
        """One transaction of nft, so that links are never half changed."""
        rules = [f"add table {_TABLE}", f"delete table {_TABLE}", f"add table {_TABLE}"]
        for hook in ("forward", "input", "output"):
            rules.append(
                f"add chain {_TABLE} {hook} {{ type filter hook {hook} priority 0; policy accept; }}"
            )
        for link in self._blocked:
            rules.append(f"add rule {_TABLE} {_match(link)} counter drop")
        for link, percent in self._lossy:
            rules.append(f"add rule {_TABLE} {_match(link)} numgen random mod 100 < {percent} counter drop")
        distant = self._distant()
        for link in [*self._shaped, *distant]:
            rules.append(f"add rule {_TABLE} {_match(link)} drop")  # A relay carries them.
        if self._distance.delay_s:
            await self._distance_relay.rule(self._rules(distant, self._distance))
        await run("nft", "-f", "-", given="\n".join(rules) + "\n")

    async def dropped(self) -> int:
        listed = json.loads(await run("nft", "-j", "list", "table", *_TABLE.split()))
        expressions: Sequence[Mapping[str, Mapping[str, int]]] = [
            part for each in listed["nftables"] if "rule" in each for part in each["rule"]["expr"]
        ]
        return sum(part["counter"]["packets"] for part in expressions if "counter" in part)


def _interface(node_id: str) -> str:
    return f"v-{node_id}"


def _match(link: Link) -> str:
    """Chain and condition of a directed link; clients sit on the bridge itself."""
    source, target = link
    if source == CLIENTS:
        return f'output oifname "{_interface(target)}"'
    if target == CLIENTS:
        return f'input iifname "{_interface(source)}"'
    return f'forward iifname "{_interface(source)}" oifname "{_interface(target)}"'
