from __future__ import annotations

import uuid

from node.stamps import Stamps


def test_times_never_go_back() -> None:
    clock = iter([5_000_000, 4_000_000, 4_500_000, 6_000_999])
    stamps = Stamps(clock_ns=lambda: next(clock))
    assert [stamps.now_us() for _ in range(4)] == [5000, 5000, 5000, 6000]


def test_transaction_ids_are_uuid7_of_their_time() -> None:
    stamps = Stamps()
    ids = [stamps.transaction_id(1_700_000_000_123_456) for _ in range(1000)]
    assert len(set(ids)) == 1000
    for each in ids:
        value = uuid.UUID(bytes=each)
        assert (value.version, value.variant) == (7, uuid.RFC_4122)
        assert int.from_bytes(each[:6], "big") == 1_700_000_000_123


def test_entropy_is_never_handed_out_twice() -> None:
    counter = iter(range(1 << 30))
    stamps = Stamps(entropy=lambda size: b"".join(next(counter).to_bytes(8, "big") for _ in range(size // 8)))
    seen = [stamps.salt() for _ in range(1000)]
    for count in (1, 300, 0, 2_000, 7):
        salts = stamps.salts(count)
        assert len(salts) == count
        seen += [*salts, stamps.salt()]
    assert {len(salt) for salt in seen} == {32}
    assert len(set(seen)) == len(seen) == 3_313
    assert len(stamps.ledger_id()) == 16
