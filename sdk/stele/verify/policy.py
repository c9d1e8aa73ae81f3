"""Whom to trust for a log: its key, and a quorum of cosigners (https://c2sp.org/tlog-policy)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from stele.verify.errors import InvalidPolicy, InvalidVerifierKey, Unsigned
from stele.verify.limits import POLICY_ENTRIES_MAX, POLICY_SIZE_BYTES_MAX
from stele.verify.note import COSIGNATURE_TYPES, ED25519, VerifierKey

NO_QUORUM: Final = "none"

_forbidden = re.compile("[\x00-\x08\x0b-\x1f\x7f]").search
_threshold_matches = re.compile("[1-9][0-9]{0,3}").fullmatch


@dataclass(frozen=True, slots=True)
class Witness:
    """A cosigner: its key, and where it takes checkpoints, if the policy says so."""

    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A group has witnessed what at least `required` of its members have."""

    required: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """A checkpoint counts when one of `logs` signed it and `quorum` cosigned it.

    `logs` are keys whose names are the logs' origins. `witnesses` and `groups` go by the names that the
    policy gives them; `quorum` is one of those names, or "none". `log_urls` has the URL of a log, by its
    key, where one is stated. Make one with `parse`, or `k_of_n` for the plain case.
    """

    logs: tuple[VerifierKey, ...]
    witnesses: Mapping[str, Witness] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    quorum: str = NO_QUORUM
    log_urls: Mapping[VerifierKey, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_keys(self.logs, "log")
        _check_keys([witness.key for witness in self.witnesses.values()], "witness")
        if any(key.algorithm != ED25519 for key in self.logs):
            raise InvalidVerifierKey("type of a log's key", expected="01")
        if any(witness.key.algorithm not in COSIGNATURE_TYPES for witness in self.witnesses.values()):
            raise InvalidVerifierKey("type of a witness's key", expected="04 or 06")
        _check_groups(self)

    @classmethod
    def k_of_n(
        cls, log: VerifierKey, cosigners: Iterable[VerifierKey] = (), required: int = 0
    ) -> TrustPolicy:
        """The log's key, and `required` of these cosigners. Raises InvalidPolicy, InvalidVerifierKey."""
        witnesses = {f"cosigner{index}": Witness(key) for index, key in enumerate(cosigners)}
        if required == 0:
            return cls((log,), witnesses)
        return cls((log,), witnesses, {"cosigners": Group(required, tuple(witnesses))}, "cosigners")

    @classmethod
    def parse(cls, text: str | bytes) -> TrustPolicy:
        """Read a policy file; raise InvalidPolicy with the number of the line that is wrong."""
        return _Reader(_checked_text(text)).policy()

    def __str__(self) -> str:
        """The policy file."""
        lines = [" ".join(filter(None, ["log", str(key), self.log_urls.get(key)])) for key in self.logs]
        for name, witness in self.witnesses.items():
            lines.append(" ".join(filter(None, ["witness", name, str(witness.key), witness.url])))
        for name, group in self.groups.items():
            lines.append(f"group {name} {group.required} {' '.join(group.members)}")
        return "\n".join([*lines, f"quorum {self.quorum}", ""])

    @property
    def keys(self) -> list[VerifierKey]:
        """Every key whose signature may count."""
        return [*self.logs, *(witness.key for witness in self.witnesses.values())]

    def for_origin(self, origin: str) -> TrustPolicy:
        """The policy for one log; raise Unsigned when no log of the policy can speak for it.

        A cluster signs the journals of all its ledgers with one key, whose names are "<cluster>/<ledger>",
        and a policy lists a key once: a log line of one ledger therefore speaks for the cluster's others.
        """
        exact = [key for key in self.logs if key.name == origin]
        cluster, _, ledger = origin.rpartition("/")
        if not exact and cluster and ledger:
            exact = [
                VerifierKey(origin, key.algorithm, key.public_key)
                for key in self.logs
                if key.name.rpartition("/")[0] == cluster
            ]
        if not exact:
            names = ", ".join(key.name for key in self.logs)
            raise Unsigned("log of the policy", expected=names, found=origin)
        return TrustPolicy(tuple(exact), self.witnesses, self.groups, self.quorum)

    def for_log(self, log: VerifierKey) -> TrustPolicy:
        """The same quorum for this one log."""
        return TrustPolicy((log,), self.witnesses, self.groups, self.quorum)

    def check_quorum(self, signers: Iterable[VerifierKey]) -> None:
        """Raise Unsigned unless those who signed satisfy the quorum. Their signatures must be checked."""
        if self.quorum == NO_QUORUM:
            return
        signed = set(signers)
        witnessed = {name for name, witness in self.witnesses.items() if witness.key in signed}
        found = sorted(witnessed)
        # A group names only what stands above it, so one pass in order settles all of them.
        for name, group in self.groups.items():
            if sum(member in witnessed for member in group.members) >= group.required:
                witnessed.add(name)
        if self.quorum not in witnessed:
            raise Unsigned("cosignatures of the checkpoint", expected=self.demand(), found=", ".join(found))

    def least_signers(self) -> int:
        """The fewest cosigners that can satisfy the quorum."""
        return len(self.nearest_signers())

    def nearest_signers(self) -> tuple[Witness, ...]:
        """As few cosigners as can satisfy the quorum, replicas rather than outside witnesses (those with a
        URL): what to ask a server to wait for."""
        nearest: dict[str, tuple[str, ...]] = {NO_QUORUM: (), **{name: (name,) for name in self.witnesses}}
        for name, group in self.groups.items():
            members = sorted((nearest[member] for member in group.members), key=self._distance)
            nearest[name] = tuple(dict.fromkeys(each for one in members[: group.required] for each in one))
        return tuple(self.witnesses[name] for name in nearest[self.quorum])

    def _distance(self, names: Sequence[str]) -> tuple[int, int]:
        return len(names), sum(self.witnesses[name].url is not None for name in names)

    def demand(self) -> str:
        """What the quorum asks for, in words."""
        group = self.groups.get(self.quorum)
        if group is None:
            return self.quorum
        return f"{group.required} of {', '.join(group.members)}"


class _Reader:
    """Reads a policy line by line. What a line names must stand above it."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")[:-1]
        self._logs: list[VerifierKey] = []
        self._log_urls: dict[VerifierKey, str] = {}
        self._witnesses: dict[str, Witness] = {}
        self._groups: dict[str, Group] = {}
        self._quorum: str | None = None

    def policy(self) -> TrustPolicy:
        entries = 0
        for number, line in enumerate(self._lines, start=1):
            words = [word for word in re.split("[ \t]+", line) if word]
            if not words or words[0].startswith("#"):
                continue
            entries += 1
            if entries > POLICY_ENTRIES_MAX:
                raise InvalidPolicy("lines of a policy", expected=f"<= {POLICY_ENTRIES_MAX}", found=entries)
            try:
                self._read(words)
            except (InvalidPolicy, InvalidVerifierKey) as error:
                raise InvalidPolicy(f"policy, line {number}: {error}") from None
        if self._quorum is None:
            raise InvalidPolicy("a policy has exactly one quorum line", found="none")
        try:
            return TrustPolicy(tuple(self._logs), self._witnesses, self._groups, self._quorum, self._log_urls)
        except InvalidVerifierKey as error:
            raise InvalidPolicy(f"policy: {error}") from None

    def _read(self, words: list[str]) -> None:
        match words:
            case ["log", key, *url] if len(url) <= 1:
                log = VerifierKey.parse(key)
                self._logs.append(log)
                if url:
                    self._log_urls[log] = url[0]
            case ["witness", name, key, *url] if len(url) <= 1:
                self._check_new(name)
                self._witnesses[name] = Witness(VerifierKey.parse(key), url[0] if url else None)
            case ["group", name, required, *members]:
                self._check_new(name)
                self._groups[name] = Group(_threshold(required, len(members)), tuple(members))
                _check_members(members, self._witnesses.keys() | self._groups.keys() - {name})
            case ["quorum", name]:
                if self._quorum is not None:
                    raise InvalidPolicy("a policy has exactly one quorum line", found="two")
                if name != NO_QUORUM:
                    _check_members([name], self._witnesses.keys() | self._groups.keys())
                self._quorum = name
            case _:
                raise InvalidPolicy(f"{' '.join(words)[:96]!r} is no log, witness, group or quorum line")

    def _check_new(self, name: str) -> None:
        if name == NO_QUORUM or name in self._witnesses or name in self._groups:
            raise InvalidPolicy(f"the name {name[:64]!r} is taken")


def _checked_text(text: str | bytes) -> str:
    try:
        encoded = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise InvalidPolicy(f"a policy is UTF-8: {error.reason}") from None
    if len(encoded) > POLICY_SIZE_BYTES_MAX:
        raise InvalidPolicy("bytes of a policy", expected=f"<= {POLICY_SIZE_BYTES_MAX}", found=len(encoded))
    # Octets beyond ASCII are opaque to the format: those that are not UTF-8 are kept as they are.
    decoded = encoded.decode("utf-8", "surrogateescape")
    bad = _forbidden(decoded)
    if bad is not None:
        raise InvalidPolicy(f"a policy holds U+{ord(bad.group()):04X} at character {bad.start()}")
    if not decoded.endswith("\n"):
        raise InvalidPolicy("each line of a policy ends in a newline; the file may be cut off")
    return decoded


def _threshold(text: str, members: int) -> int:
    if text in ("all", "any"):
        return members if text == "all" else 1
    if _threshold_matches(text) is None:
        raise InvalidPolicy("threshold of a group", expected="all, any or a number", found=text[:32])
    return int(text)


def _check_members(members: Iterable[str], known: Iterable[str]) -> None:
    unknown = [name for name in members if name not in set(known)]
    if unknown:
        raise InvalidPolicy(f"{unknown[0][:64]!r} is not defined above")


def _check_groups(policy: TrustPolicy) -> None:
    """Thresholds that can be met, members that exist, none of them in two places."""
    known = set(policy.witnesses)
    used: set[str] = set()
    for name, group in policy.groups.items():
        if not 1 <= group.required <= len(group.members):
            raise InvalidPolicy(
                f"threshold of group {name}", expected=f"1 to {len(group.members)}", found=group.required
            )
        for member in group.members:
            if member in used:
                raise InvalidPolicy(f"{member[:64]!r} is a member twice")
            used.add(member)
        _check_members(group.members, known)
        known.add(name)
    if policy.quorum != NO_QUORUM:
        _check_members([policy.quorum], known)


def _check_keys(keys: Iterable[VerifierKey], what: str) -> None:
    """One public key under two names would count twice."""
    seen: set[bytes] = set()
    for key in keys:
        if key.public_key in seen:
            raise InvalidVerifierKey(f"two {what} lines share one public key")
        seen.add(key.public_key)
