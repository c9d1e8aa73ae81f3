"""Trust policies: what the file format allows, and when a quorum is reached."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stele.verify.errors import InvalidPolicy, Unsigned, VerificationError
from stele.verify.note import VerifierKey
from stele.verify.policy import TrustPolicy
from tests.verify.journal import VERIFIER

KEYS = [VerifierKey(f"w{number}", 4, bytes([number]) * 32) for number in range(6)]
X1, X2, X3, Y1, Y2, Y3 = KEYS
TWO_LEVELS = f"""# the example of the specification
log {VERIFIER}

witness X1 {X1}
witness X2\t{X2}   https://x2.example/
 witness X3 {X3}
group X-witnesses 2 X1 X2 X3
witness Y1 {Y1}
witness Y2 {Y2}
witness Y3 {Y3}
group Y-witnesses any Y1 Y2 Y3
group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def test_two_levels_of_groups() -> None:
    policy = TrustPolicy.parse(TWO_LEVELS)
    assert policy.logs == (VERIFIER,)
    assert policy.witnesses["X2"].url == "https://x2.example/"
    assert policy.least_signers() == 3
    for size in range(7):
        for signers in itertools.combinations(KEYS, size):
            enough = len({X1, X2, X3} & set(signers)) >= 2 and bool({Y1, Y2, Y3} & set(signers))
            if enough:
                policy.check_quorum(signers)
            else:
                with pytest.raises(Unsigned):
                    policy.check_quorum(signers)


def test_a_policy_is_written_as_it_is_read() -> None:
    policy = TrustPolicy.parse(TWO_LEVELS)
    assert TrustPolicy.parse(str(policy)) == policy
    one = TrustPolicy.parse(f"log {VERIFIER} https://log.example\nwitness w {X1}\nquorum w\n")
    assert TrustPolicy.parse(str(one)) == one
    assert (one.log_urls[VERIFIER], one.least_signers()) == ("https://log.example", 1)


def test_without_a_quorum_nobody_needs_to_cosign() -> None:
    policy = TrustPolicy.parse(f"log {VERIFIER}\nquorum none\n")
    policy.check_quorum([])
    assert policy.least_signers() == 0


def test_octets_beyond_ascii_are_opaque() -> None:
    text = b"witness \xe2\x84\xaa " + str(X1).encode() + b"\nwitness \xff " + str(X2).encode()
    policy = TrustPolicy.parse(text + b"\ngroup g all \xe2\x84\xaa \xff\nquorum g\n")
    policy.check_quorum([X1, X2])
    assert TrustPolicy.parse(str(policy)) == policy
    with pytest.raises(InvalidPolicy, match="line 1"):
        TrustPolicy.parse(b"witness w \x80" + str(X1).encode() + b"\nquorum w\n")
    with pytest.raises(InvalidPolicy, match="not defined"):
        TrustPolicy.parse(text + b"\nquorum K\n")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("\n", "exactly one quorum"),
        ("", "newline"),
        ("quorum none", "newline"),
        ("quorum none\nquorum none\n", "two"),
        ("quorum w\n", "not defined above"),
        ("quorum g\nwitness w X1\ngroup g any w\n", "not defined above"),
        ("witness none X1\nquorum none\n", "taken"),
        ("witness w X1\nwitness w X2\nquorum none\n", "taken"),
        ("witness w X1\ngroup w any w\nquorum w\n", "taken"),
        ("witness w X1\nwitness v X1\nquorum none\n", "share one public key"),
        ("log LOG\nlog LOG\nquorum none\n", "share one public key"),
        ("log X1\nquorum none\n", "type of a log's key"),
        ("witness w LOG\nquorum w\n", "type of a witness's key"),
        ("witness w X1\ngroup g 2 w\nquorum g\n", "threshold"),
        ("witness w X1\ngroup g 0 w\nquorum g\n", "threshold"),
        ("witness w X1\ngroup g 01 w\nquorum g\n", "threshold"),
        ("witness w X1\ngroup g most w\nquorum g\n", "threshold"),
        ("group g all\nquorum g\n", "threshold"),
        ("group g all g\nquorum g\n", "not defined above"),
        ("witness w X1\ngroup g any w none\nquorum g\n", "not defined above"),
        ("witness w X1\ngroup g 2 w w\nquorum g\n", "member twice"),
        ("witness w X1\ngroup g any w\ngroup h any w\nquorum h\n", "member twice"),
        ("witness w X1 url more\nquorum w\n", "is no log"),
        ("witness w nonsense\nquorum w\n", "line 1"),
        ("Quorum none\n", "is no log"),
        ("quorum none\r\n", "U\\+000D"),
        ("quorum\x00none\n", "U\\+0000"),
        ("quorum\u00a0none\n", "is no log"),
        ("witness w X1\n" * 300, "taken"),
        ("# x\n" * 70_000 + "quorum none\n", "bytes of a policy"),
    ],
)
def test_what_is_no_policy(lines: str, why: str) -> None:
    text = lines.replace("X1", str(X1)).replace("X2", str(X2)).replace("LOG", str(VERIFIER))
    with pytest.raises(InvalidPolicy, match=why):
        TrustPolicy.parse(text)


def test_a_policy_is_bounded() -> None:
    witnesses = [VerifierKey("w", 4, number.to_bytes(32, "big")) for number in range(300)]
    text = "".join(f"witness w{number} {key}\n" for number, key in enumerate(witnesses))
    with pytest.raises(InvalidPolicy, match="lines of a policy"):
        TrustPolicy.parse(text + "quorum none\n")
    accepted = "".join(text.splitlines(keepends=True)[:32])
    assert len(TrustPolicy.parse(accepted + "quorum none\n").witnesses) == 32


@given(st.integers(0, len(TWO_LEVELS) - 1), st.integers(0, 255))
def test_any_changed_byte_is_read_or_refused(position: int, byte: int) -> None:
    changed = bytearray(TWO_LEVELS.encode())
    changed[position] = byte
    try:
        policy = TrustPolicy.parse(bytes(changed))
    except VerificationError:
        return
    assert policy.quorum == "none" or policy.least_signers() >= 1


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(VerificationError):
        TrustPolicy.parse(data)


def test_one_line_speaks_for_a_cluster() -> None:
    policy = TrustPolicy.k_of_n(VERIFIER, [X1], 1)
    other = policy.for_origin("cluster/other")
    assert [key.name for key in other.logs] == ["cluster/other"]
    assert other.quorum == policy.quorum
    for origin in ("elsewhere/registry", "cluster", "cluster/", "/registry", ""):
        with pytest.raises(Unsigned):
            policy.for_origin(origin)


def test_who_is_waited_for_satisfies_the_quorum_and_is_near() -> None:
    """Replicas rather than outside witnesses, which are those with a URL, and no more than needed."""
    for text in (TWO_LEVELS, f"log {VERIFIER}\nwitness w {X1}\nquorum w\n", f"log {VERIFIER}\nquorum none\n"):
        policy = TrustPolicy.parse(text)
        nearest = policy.nearest_signers()
        assert len(nearest) == policy.least_signers()
        policy.check_quorum([each.key for each in nearest])
    outside = f"witness far {X1} https://far.example\nwitness near {X2}\ngroup one any far near\nquorum one\n"
    assert [each.url for each in TrustPolicy.parse(f"log {VERIFIER}\n{outside}").nearest_signers()] == [None]
