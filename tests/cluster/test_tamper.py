"""A byte altered behind a node's back: fsck names it, and a client refuses the proof."""

from __future__ import annotations

import aiohttp
import pytest

from stele.verify.document import verify_document
from stele.verify.errors import VerificationError
from stele.verify.note import VerifierKey
from storage import directory, fsck, keys
from storage.engine import Batch, Engine
from tests.cluster.cluster import Cluster, leader_of
from tests.cluster.workload import LEDGER, TABLE, Told, prepare, settle

TIMEOUT = aiohttp.ClientTimeout(total=5)


async def test_a_tampered_value_is_named_and_refused(cluster: Cluster) -> None:
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await prepare(session, cluster)
        await settle(session, cluster, "account", {}, b'{"balance":100}', Told())
        leader = await leader_of(session, cluster)
        async with session.get(f"{leader.http}/v1/ledgers/{LEDGER}") as answer:
            info = await answer.json()
        url = f"/v1/ledgers/{LEDGER}/tables/{TABLE}/documents/account?proof=true"
        key = VerifierKey.parse(info["verifier_key"])
        async with session.get(leader.http + url) as answer:
            honest = await answer.json()
        verify_document(honest, info["id"], TABLE, "account", key)
    stores = cluster.stores()
    cluster.stop()
    for store in stores:
        assert fsck.check(store).findings == []
        engine = Engine(store / directory.STORE)
        ((row_key, row),) = [row for row in engine.scan(b"D", keys.end_of(b"D")) if b"account\0" in row[0]]
        assert b'{"balance":100}' in row
        batch = Batch()
        batch.put(row_key, row.replace(b":100}", b":900}"))
        engine.write(batch, sync=True)
        engine.close()
        (finding,) = fsck.check(store).findings
        assert "document 'account'" in finding.where
    cluster.start()
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        leader = await leader_of(session, cluster)
        async with session.get(leader.http + url) as answer:
            forged = await answer.json()
        assert forged["data"] == {"balance": 900}
        with pytest.raises(VerificationError):
            verify_document(forged, info["id"], TABLE, "account", key)
