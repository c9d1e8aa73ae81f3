"""A node has outside witnesses cosign its checkpoints, and keeps what they sign; nothing waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.checkpoints import Demand
from node.config import ConfigInvalid
from node.witnessing import read_witnesses
from stele.client import Client
from stele.client import TrustPolicy as ClientPolicy
from stele.format.cosignature import Cosigner
from stele.verify.checkpoint import parse_checkpoint
from stele.verify.note import VerifierKey
from stele.verify.policy import TrustPolicy
from stele.witness.records import Records
from stele.witness.server import WitnessService
from storage import fsck
from tests.node.served import ServedNode, free_port

NAME = "witness.example/w1"
WITHIN_S = 20.0


class Setting:
    """A node whose settings name a witness, and the witness, which may come later."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cosigner = Cosigner(NAME, Ed25519PrivateKey.generate())
        self.port = free_port()
        self.policy_file = directory / "witnesses.policy"
        self.policy_file.write_text(
            f"witness w1 {self.cosigner.verifier_key()} http://127.0.0.1:{self.port}\nquorum w1\n"
        )
        settings = {"witnesses_file": self.policy_file, "witness_interval_s": 0.05}
        self.node = ServedNode(directory, settings).start()
        self.ledger = self.node.ledger("watched")

    def put(self, key: str) -> None:
        path = f"/v1/ledgers/{self.ledger}/tables/cars/documents/{key}"
        assert self.node.ask("PUT", path, {"n": 1}).status == 201
        assert self.node.ask("GET", f"{path}?proof=true").status == 200  # which needs a seal

    def log_key(self) -> VerifierKey:
        return VerifierKey.parse(self.node.ask("GET", f"/v1/ledgers/{self.ledger}").json["verifier_key"])

    def client_policy(self) -> str:
        """The log, its only replica, and the witness."""
        keys = self.node.ask("GET", "/v1/cluster/keys").json["replicas"][0]["verifier_keys"]
        return (
            f"log {self.log_key()}\nwitness n0 {keys[0]}\n{self.policy_file.read_text().splitlines()[0]}\n"
            "group both all n0 w1\nquorum both\n"
        )

    def checkpoint(self, required: int = 1) -> str:
        """The newest one that the node's own key has cosigned."""
        path = f"/v1/ledgers/{self.ledger}/checkpoint?cosignatures={required}"
        answer = self.node.ask("GET", path)
        assert answer.status == 200, answer.body
        return answer.body.decode()

    @asynccontextmanager
    async def witness(self) -> AsyncIterator[None]:
        records = Records(self.directory / "witness")
        service = WitnessService(self.cosigner, [self.log_key()], records)
        runner = web.AppRunner(service.application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()
            records.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def test_a_witness_cosigns_what_grows_and_its_lines_are_kept_and_served(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.put("a")
    assert NAME not in setting.checkpoint()  # it is away, which holds up nothing
    log = setting.log_key()
    policy = TrustPolicy.k_of_n(log, [VerifierKey.parse(setting.cosigner.verifier_key())], 1)
    async with setting.witness():
        await until(lambda: NAME in setting.checkpoint(), "the witness cosigns")
        first = parse_checkpoint(setting.checkpoint(), policy)
        setting.put("b")
        await until(
            lambda: f"\n{first.size}\n" not in (note := setting.checkpoint()) and NAME in note,
            "it cosigns the next one",
        )
        later = parse_checkpoint(setting.checkpoint(), policy)
        assert later.size > first.size
        # A client whose policy needs the witness waits for its word on the very newest seal.
        trust = ClientPolicy.parse(setting.client_policy())
        async with Client([setting.node.url], trust=trust) as client:
            ledger = client.ledger(setting.ledger)
            for n in range(3):
                await ledger.put("cars", "c", {"n": n})
                assert (await ledger.get("cars", "c")).data == {"n": n}
            newest = await ledger.checkpoint()
            assert NAME in newest.note
    path = f"/v1/ledgers/{setting.ledger}/checkpoint?witnesses=witness.example/w2"
    unknown = await asyncio.to_thread(setting.node.ask, "GET", path)
    assert (unknown.slug, unknown.json["field"]) == ("invalid-parameter", "witnesses")
    # Kept, with the witness gone, and no replica: who waits for two of them waits in vain.
    kept = setting.node.ask("GET", f"/v1/ledgers/{setting.ledger}/checkpoints?from_size=0").json[
        "checkpoints"
    ]
    witnessed = [each["size"] for each in kept if NAME in each["note"]]
    assert {first.size, later.size} <= set(witnessed)
    found = setting.node.node.services.checkpoints
    assert found.cosigned(setting.ledger, Demand(1), later.size) is not None
    assert found.cosigned(setting.ledger, Demand(2), 0) is None
    assert found.fulfils(setting.ledger, later.size, Demand(1, frozenset({NAME})))
    await asyncio.to_thread(setting.node.stop)
    assert fsck.check(tmp_path / "data").findings == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file"),
        ("quorum nobody\n", "witnesses_file"),
        ("quorum none\n", "names no witness with a URL"),
    ],
)
def test_a_file_that_names_no_witness_is_said(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "witnesses.policy"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigInvalid, match=says):
        read_witnesses(path)
