"""Receipts of a test journal, what is true of it, and ways to falsify a receipt."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stele.format.note import SigningKey
from stele.verify.entry import Fact
from stele.verify.errors import VerificationError
from stele.verify.note import VerifierKey
from stele.verify.policy import TrustPolicy
from stele.verify.receipt import ReceiptReport, ReceiptVerifier
from tests.verify.journal import VERIFIER, Journal, Members, Write, sample
from tests.verify.prover import Prover

REPLICAS = tuple(
    SigningKey(f"cluster/n{number}", Ed25519PrivateKey.from_private_bytes(bytes([100 + number]) * 32))
    for number in range(3)
)
COSIGNERS = tuple(VerifierKey.parse(key.verifier_key()).for_cosignatures() for key in REPLICAS)
ALL = TrustPolicy.k_of_n(VERIFIER, COSIGNERS, 3)
"""All must sign, so that no signature line can be changed without being missed."""


def sealed_sample() -> Journal:
    """The sample journal with seals, a table that was dropped and one that came again under its name."""
    journal = sample()
    journal.replicas = REPLICAS
    old = journal.create_table("boats")
    journal.append([Write(old, "argo", {"crew": 50})])
    journal.seal()
    journal.append([Write("$tables@0", "boats", {"name": "boats", "indexes": [], "state": "dropped"})])
    journal.append([Write("people@2", "zoë 😀", None)])
    new = journal.create_table("boats")
    journal.append([Write(new, "fram", {"crew": 16})])
    journal.append([Write("$tables@0", "people", {"name": "people", "indexes": [], "state": "dropped"})])
    journal.seal()
    return journal


def receipts(prover: Prover) -> list[Members]:
    """A receipt of every kind, about documents of every fate."""
    made = []
    for table, key in [
        ("cars", "vin-1"),
        ("cars", "vin-2"),
        ("cars", "vin-3"),
        ("boats", "argo"),
        ("boats", "fram"),
        ("people", "zoë 😀"),
        ("planes", "spirit"),
    ]:
        names = {"table": table, "key": key}
        current = prover.current(table, key)
        kind = "absence" if "revision" not in current["document"] else "current"
        made.append(prover.receipt(kind, current, **names))
        made.append(prover.receipt("history", prover.history(table, key), **names))
        for seq in (0, 3, 4, 5, prover.size - 1):
            made.append(prover.receipt("as-of", prover.as_of(table, key, seq), **names, as_of_seq=seq))
    for version in (0, 1, 3):
        proof = prover.revision("cars", "vin-2", version)
        made.append(prover.receipt("revision", proof, table="cars", key="vin-2", version=version))
    for seq in (0, 4, prover.size - 1):
        made.append(prover.receipt("block", prover.block(seq), block=prover.journal.blocks[seq]))
    return made


def encoded(receipt: object) -> bytes:
    return json.dumps(receipt, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def is_true(report: ReceiptReport, prover: Prover) -> bool:
    """Whether what was accepted is what the journal holds."""
    if report.checkpoint.size != prover.size or report.checkpoint.root != prover.journal.root(prover.size):
        return False
    receipt = report.receipt
    if report.block is not None:
        seq = report.block.header.seq
        return bool(json.loads(msgspec.json.encode(report.block)) == prover.journal.blocks[seq])
    table, key = str(receipt.table), str(receipt.key)
    truth: dict[str, Callable[[], Members]] = {
        "current": lambda: prover.current(table, key),
        "absence": lambda: prover.current(table, key),
        "history": lambda: prover.history(table, key),
        "as-of": lambda: prover.as_of(table, key, _number(receipt.as_of_seq)),
        "revision": lambda: prover.revision(table, key, _number(receipt.version)),
    }
    document = truth[receipt.kind]()["document"]
    assert report.proven is not None
    true = [document["revision"], *document.get("older", [])] if "revision" in document else []
    found = [] if report.proven.revision is None else [report.proven.revision, *report.proven.older]
    return len(found) == len(true) and all(map(_says, found, true))


def _says(fact: Fact, revision: Members) -> bool:
    """Whether a proved revision is this one. What a receipt leaves out is no falsehood."""
    leaf, header = revision["leaf"], revision["place"]["header"]
    return (
        (fact.version, fact.op, fact.prev_seq) == (leaf["version"], leaf["op"], leaf["prev_seq"])
        and fact.seq == header["seq"]
        and fact.tx in (None, header["tx"])
        and fact.at in (None, header["at"])
        and (fact.data == revision.get("data") if fact.opened else fact.data is None)
    )


def accepted(text: bytes, verifier: ReceiptVerifier) -> ReceiptReport | None:
    """The report, or None when the receipt is refused. Any other error than a refusal fails the test."""
    try:
        return verifier.verify(text)
    except VerificationError:
        return None


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a JSON tree, the root left out."""
    if not isinstance(value, dict | list):
        return
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for name, child in children:
        yield (*where, name)
        yield from places(child, (*where, name))


def mutated(receipt: Members, where: tuple[Any, ...], draw: random.Random, donor: Members) -> Members:
    """A copy with one value changed, removed, repeated or taken from the same place of another receipt."""
    changed = copy.copy(receipt)
    parent: Any = changed
    for name in where[:-1]:  # copies along the way only: the rest is shared and never written to
        parent[name] = copy.copy(parent[name])
        parent = parent[name]
    last = where[-1]
    match draw.randrange(6):
        case 0:
            del parent[last]
        case 1:
            parent[last] = _donated(donor, where, parent[last])
        case 2 if isinstance(parent, list):
            parent.insert(last, parent[last])
        case 3 if isinstance(parent, list) and len(parent) > 1:
            other = draw.randrange(len(parent))
            parent[last], parent[other] = parent[other], parent[last]
        case _:
            parent[last] = _changed(parent[last], draw)
    return changed


def _changed(value: Any, draw: random.Random) -> Any:
    match value:
        case bool() | None:
            return draw.choice([True, None, 0, "", [], {}])
        case int():
            return draw.choice([value + 1, value - 1, 0, -1, value * 2, 2**53 - 1, 2**64, str(value)])
        case float():
            return draw.choice([value + 1.0, -value, 0.0])
        case str() if value:
            return _changed_text(value, draw)
        case list():
            return draw.choice([[], {}, None, [*value, draw.choice(value)] if value else [""]])
        case dict():
            return draw.choice([{}, [], None, {**value, "more": 1}])
        case _:
            return draw.choice(["x", None, 7])


def _changed_text(value: str, draw: random.Random) -> str:
    at = draw.randrange(len(value))
    match draw.randrange(5):
        case 0:
            return value[:at] + value[at + 1 :]
        case 1:
            return value[:at] + value[at:].swapcase()
        case 2:
            return value[:at] + draw.choice("0123456789abcdefABCDEF+/=\n \ud800é") + value[at:]
        case 3:
            return value[:at]
        case _:
            return value[:at] + draw.choice("0123456789abcdefAz+/=") + value[at + 1 :]


def _donated(donor: Members, where: tuple[Any, ...], default: Any) -> Any:
    """What stands at the same place of another receipt: right in form, wrong in fact."""
    found: Any = donor
    for name in where:
        try:
            found = found[name]
        except (KeyError, IndexError, TypeError):
            return default
    return found


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value
