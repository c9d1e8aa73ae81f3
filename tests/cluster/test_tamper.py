"""A byte altered behind a node's back: fsck names it, a client refuses it, and the node finds it itself."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest

from stele.verify.document import verify_document
from stele.verify.errors import VerificationError
from stele.verify.note import VerifierKey
from stele.verify.proof import ProofVerifier
from storage import directory, fsck, keys
from storage.engine import Batch, Engine
from storage.store import Store
from tests.cluster.cluster import Cluster, leader_of, wait_until
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
        verifier = ProofVerifier(VerifierKey.parse(info["verifier_key"]), info["id"])
        async with session.get(leader.http + url) as answer:
            honest = await answer.json()
        verify_document(honest, verifier, TABLE, "account")
    (leaders,) = [store for store in cluster.stores() if leader.id in store.parts]
    cluster.stop()
    assert fsck.check(leaders).findings == []
    tamper(leaders)
    (finding,) = fsck.check(leaders).findings
    assert "document 'account'" in finding.where
    store = Store.open(leaders)
    try:
        revision = store.view(LEDGER).get(TABLE, "account")
        assert revision is not None
        forged = {**honest, "data": json.loads(revision.payload)}
    finally:
        store.close()
    assert forged["data"] == {"balance": 900}
    with pytest.raises(VerificationError):
        verify_document(forged, verifier, TABLE, "account")
    # The others serve on, and the node that finds itself altered stops before it answers from there.
    cluster.start()
    log = cluster.data / leader.id / "steled.log"
    wait_until(lambda: "the scrub found damage" in log.read_text(), 30.0, "the node finds it itself")


def tamper(store: Path) -> None:
    """Alters the document in the database of a stopped node."""
    engine = Engine(store / directory.STORE)
    ((key, row),) = [row for row in engine.scan(b"D", keys.end_of(b"D")) if b"account\0" in row[0]]
    assert b'{"balance":100}' in row
    batch = Batch()
    batch.put(key, row.replace(b":100}", b":900}"))
    engine.write(batch, sync=True)
    engine.close()
