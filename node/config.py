"""What one node needs to know to run. Flag > environment (STELED_*) > TOML file > default (see main.py)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from cyclopts import Parameter, Token

from consensus.limits import ADDRESS_LENGTH_MAX
from node import limits

# A host name (internationalised ones in their ASCII form), an IPv4 address, or an IPv6 address in brackets.
_HOST = r"(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])"
_ADDRESS = re.compile(_HOST + r":(?P<port>[0-9]{1,5})")
_HTTP_URL = re.compile("https?://" + _HOST + r"(?::(?P<port>[0-9]{1,5}))?")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

LogLevel = Literal["debug", "info", "warning", "error"]


class ConfigInvalid(ValueError):
    """A setting that cannot work. The message begins with the name of the setting."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One node of the cluster, this one included, as every other node reaches it."""

    id: str
    zone: str
    raft_host: str
    raft_port: int
    http_url: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """`id,zone,raft host:port,http url`, for example `n0,zone-a,127.0.0.1:7500,http://127.0.0.1:7400`.

        Raises ConfigInvalid.
        """
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 4:
            raise ConfigInvalid(f"peers: {text!r} is not of the form id,zone,raft-host:port,http-url")
        identifier, zone, raft, http_url = parts
        host, port = parse_address("peers", raft)
        return cls(id=identifier, zone=zone, raft_host=host, raft_port=port, http_url=http_url.rstrip("/"))

    def __str__(self) -> str:
        return f"{self.id},{self.zone},{address(self.raft_host, self.raft_port)},{self.http_url}"


def _parse_peers(_type: Any, tokens: Sequence[Token]) -> tuple[Peer, ...]:
    return tuple(Peer.parse(token.value) for token in tokens)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of one node.

    Parameters
    ----------
    node_id
        Name of this node in the cluster; one of the peers.
    data_dir
        Directory of this node's database. Created when missing.
    cluster
        Name of the cluster; the first half of every checkpoint's origin.
    zone
        Availability zone of this node.
    http_host
        Address the HTTP API listens on.
    http_port
        Port of the HTTP API.
    raft_host
        Address that replication listens on.
    raft_port
        Port of replication.
    peers
        The nodes that found the cluster, this one included: id,zone,raft-host:port,http-url. Without it, a
        cluster of one. What is added and removed later, the cluster remembers by itself.
    join
        Found nothing: wait until a cluster that exists adds this node (stele cluster add). Its peers are then
        some of that cluster's members. Without effect once the node has been added.
    log_key_file
        PEM file of the cluster's Ed25519 log key, which signs checkpoints. The same on every node, and
        readable by its owner only.
    cosigner_key_file
        PEM file of this node's own key, which cosigns checkpoints. Made on the first start; by default
        cosigner-key.pem in data_dir.
    witnesses_file
        A trust policy (C2SP tlog-policy) whose witnesses with a URL are asked to cosign every ledger's newest
        checkpoint. What they sign is kept, and served with it.
    witness_interval_s
        How often they are asked.
    raft_ca_file
        PEM file of the authority that certifies the nodes of this cluster.
    raft_certificate_file
        PEM file of this node's certificate (see steled certificates).
    raft_key_file
        PEM file of its private key; readable by its owner only.
    insecure
        Do without: let HTTP, which has neither TLS nor authentication yet, listen beyond loopback, and
        replicate on loopback without the three files above, over plain TCP.
    commit_timeout_s
        A commit slower than this is answered "outcome unknown".
    seal_interval_s
        The longest that a committed block waits for a seal, which makes it provable. 0 turns seals off, and
        with them every proof and checkpoint: for measuring only.
    pending_commands_max
        Commands that may wait for group commit before new ones are refused.
    entries_in_flight_max
        Raft entries proposed and not applied yet.
    catch_up_rate_mib_s
        MiB a second that this node, when it leads, sends at most to nodes that are far behind, over all.
    log_retained_mib
        MiB of log kept for nodes that are behind or down; who needs more gets a snapshot.
    allow_erasure
        Let POST …/erasures remove the content of revisions for good. Anybody who reaches the API can then
        do it, as this version has no authentication; the same on every node.
    read_lease
        Answer strong reads without asking the others while a lease lasts, once a majority has this. It
        trusts clocks, and a leader that dies is then missed for a whole election timeout.
    clock_drift_max_ppm
        By how much any node's clock may run fast or slow, in millionths; leases are shorter by as much.
    scrub_rows_per_s
        Blocks, buckets and checkpoints that the background scrub recomputes a second; 0 turns it off.
    log_level
        What to log on stderr, as JSON lines.
    """

    node_id: str
    data_dir: Path
    log_key_file: Path
    cosigner_key_file: Path | None = None
    witnesses_file: Path | None = None
    witness_interval_s: float = limits.WITNESS_INTERVAL_S
    cluster: str = "stele"
    zone: str = "zone-a"
    http_host: str = "127.0.0.1"
    http_port: int = 7400
    raft_host: str = "127.0.0.1"
    raft_port: int = 7500
    peers: Annotated[
        tuple[Peer, ...],
        Parameter(
            name=("--peers", "--peer"),
            converter=_parse_peers,
            accepts_keys=False,
            n_tokens=1,
            negative="",
        ),
    ] = ()
    join: Annotated[bool, Parameter(negative="")] = False
    raft_ca_file: Path | None = None
    raft_certificate_file: Path | None = None
    raft_key_file: Path | None = None
    insecure: Annotated[bool, Parameter(negative="")] = False
    commit_timeout_s: float = limits.COMMIT_TIMEOUT_S
    seal_interval_s: float = limits.SEAL_INTERVAL_S
    pending_commands_max: int = limits.PENDING_COMMANDS_MAX
    entries_in_flight_max: int = limits.ENTRIES_IN_FLIGHT_MAX
    catch_up_rate_mib_s: int = limits.CATCH_UP_RATE_MIB_S
    log_retained_mib: int = limits.LOG_RETAINED_MIB
    allow_erasure: Annotated[bool, Parameter(negative="")] = False
    read_lease: Annotated[bool, Parameter(negative="")] = False
    clock_drift_max_ppm: int = limits.CLOCK_DRIFT_MAX_PPM
    scrub_rows_per_s: int = limits.SCRUB_ROWS_PER_S
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        check_identifier("node_id", self.node_id)
        check_identifier("cluster", self.cluster)
        check_identifier("zone", self.zone)
        _check_port("http_port", self.http_port)
        _check_port("raft_port", self.raft_port)
        _check_range("commit_timeout_s", self.commit_timeout_s, 0.1, 600)
        check_seal_interval(self.seal_interval_s)
        _check_range("witness_interval_s", self.witness_interval_s, 0.05, 86_400)
        _check_range("pending_commands_max", self.pending_commands_max, 1, 1_000_000)
        _check_range("entries_in_flight_max", self.entries_in_flight_max, 1, 64)
        _check_range("catch_up_rate_mib_s", self.catch_up_rate_mib_s, 1, 10_000)
        _check_range("log_retained_mib", self.log_retained_mib, 1, 65_536)
        _check_range("clock_drift_max_ppm", self.clock_drift_max_ppm, 0, 500_000)
        _check_range("scrub_rows_per_s", self.scrub_rows_per_s, 0, 1_000_000)
        if not self.peers and not self.join:
            object.__setattr__(self, "peers", (self._alone(),))
        self._check_peers()
        self._check_listening()

    def _alone(self) -> Peer:
        return Peer(
            id=self.node_id,
            zone=self.zone,
            raft_host=self.raft_host,
            raft_port=self.raft_port,
            http_url=f"http://{address(self.http_host, self.http_port)}",
        )

    def _check_peers(self) -> None:
        if len(self.peers) > limits.VOTERS_MAX:
            raise ConfigInvalid(f"peers: at most {limits.VOTERS_MAX}, got {len(self.peers)}")
        identifiers = [peer.id for peer in self.peers]
        if len(set(identifiers)) != len(identifiers):
            raise ConfigInvalid("peers: two of them have the same id")
        if self.join and not self.other_peers:
            raise ConfigInvalid("join: needs peers, at least one other node that is a member already")
        if self.node_id not in identifiers and not self.join:
            raise ConfigInvalid(
                f"peers: this node, {self.node_id!r}, is not among {', '.join(identifiers)}; "
                "to be added to a cluster that exists, it needs join = true"
            )
        for peer in self.peers:
            check_identifier("peers", peer.id)
            check_identifier("peers", peer.zone)
            _check_port("peers", peer.raft_port)
            check_http_url("peers", peer.http_url)

    @property
    def other_peers(self) -> tuple[Peer, ...]:
        return tuple(peer for peer in self.peers if peer.id != self.node_id)

    def _check_listening(self) -> None:
        if not self.insecure and not is_loopback(self.http_host):
            raise ConfigInvalid(
                f"http_host: {self.http_host!r} is reachable from other machines, and HTTP has neither TLS "
                "nor authentication in this version; listen on 127.0.0.1, or pass --insecure on a network "
                "you trust"
            )
        for field, path in self._raft_files():
            if path is None and self.replicates_in_plain:
                self._check_plain_replication(field)
            elif path is None:
                raise ConfigInvalid(f"{field}: missing; TLS needs all three raft_…_file settings")

    def _raft_files(self) -> list[tuple[str, Path | None]]:
        return [
            ("raft_ca_file", self.raft_ca_file),
            ("raft_certificate_file", self.raft_certificate_file),
            ("raft_key_file", self.raft_key_file),
        ]

    def _check_plain_replication(self, field: str) -> None:
        """Whoever reaches a Raft port without TLS can write anything, so nobody else's machine may."""
        if not self.insecure:
            raise ConfigInvalid(
                f"{field}: missing; nodes replicate over mutual TLS (see steled certificates), "
                "or with --insecure over plain TCP on loopback"
            )
        for setting, host in [
            ("raft_host", self.raft_host),
            *(("peers", each.raft_host) for each in self.peers),
        ]:
            if not is_loopback(host):
                raise ConfigInvalid(
                    f"{setting}: {host!r} is not on loopback, and without raft_ca_file, "
                    "raft_certificate_file and raft_key_file replication is plain TCP, "
                    "which --insecure allows on loopback only"
                )

    @property
    def cosigner_key_path(self) -> Path:
        return self.cosigner_key_file or self.data_dir / "cosigner-key.pem"

    @property
    def replicates_in_plain(self) -> bool:
        return all(path is None for _, path in self._raft_files())


def check_identifier(field: str, value: str) -> None:
    """The name of a node, zone or cluster. Raises ConfigInvalid."""
    if not _IDENTIFIER.fullmatch(value):
        raise ConfigInvalid(
            f"{field}: {value!r} must be 1 to 63 letters, digits, '_', '.' or '-', a letter or digit first"
        )


def check_seal_interval(value_s: float) -> None:
    """Raises ConfigInvalid."""
    if value_s != 0:
        _check_range("seal_interval_s", value_s, 0.01, 3_600)


def address(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(field: str, text: str) -> tuple[str, int]:
    """Host and port of `host:port`, the host without brackets. Raises ConfigInvalid."""
    found = _ADDRESS.fullmatch(text)
    if found is None or len(found["host"]) > ADDRESS_LENGTH_MAX:
        raise ConfigInvalid(f"{field}: {text!r} is not host:port")
    return found["host"].strip("[]"), int(found["port"])


def check_http_url(field: str, text: str) -> None:
    """The address of an HTTP API. Raises ConfigInvalid."""
    found = _HTTP_URL.fullmatch(text)
    if found is None or len(text) > ADDRESS_LENGTH_MAX or not 1 <= int(found["port"] or 80) <= 65_535:
        raise ConfigInvalid(f"{field}: {text!r} is not an http URL without a path")


def _check_port(field: str, value: int) -> None:
    _check_range(field, value, 1, 65_535)


def _check_range(field: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigInvalid(f"{field}: must be {least} to {most}, got {value}")
