"""The keys of the cluster: who signs checkpoints, and the statements that made them count."""

from __future__ import annotations

from node import limits
from node.http import key_schemas
from node.http.answers import WholeAnswer, answer_struct
from node.http.bodies import read_body
from node.http.problems import Problem
from node.http.route import JSON, TEXT, Answer, Call, Content, Route
from node.http.services import Services
from stele.verify.errors import VerificationError

_KEYS = "/v1/cluster/keys"


async def get_keys(services: Services, call: Call) -> WholeAnswer:
    await services.reads.strong()
    return answer_struct(_described(services))


async def post_statement(services: Services, call: Call) -> WholeAnswer:
    """Record a statement. Whoever sends it needs no leave: the statement bears the signatures that count."""
    body = await read_body(call, services.budget, limits.KEY_STATEMENT_SIZE_BYTES_MAX)
    try:
        await services.signing.keys.record(body.decode())
    except UnicodeDecodeError as error:
        raise Problem("invalid-utf8", f"a statement is UTF-8: {error.reason}") from error
    except VerificationError as error:
        raise Problem("key-statement-refused", str(error)) from error
    return answer_struct(_described(services))


def _described(services: Services) -> key_schemas.ClusterKeys:
    keys = services.signing.keys
    history = keys.history()
    active = [
        key_schemas.ReplicaKey(node=node_id, verifier_keys=[str(key) for key in found], state="active")
        for node_id, found in sorted(history.replicas.items())
    ]
    retired = [
        key_schemas.ReplicaKey(node=node_id, verifier_keys=[str(key)], state="retired")
        for node_id, key in history.retired
    ]
    return key_schemas.ClusterKeys(
        cluster=services.config.cluster,
        log=None if history.log is None else str(history.log),
        replicas=active + retired,
        statements=[
            key_schemas.KeyStatement(seq=each.seq, statement=each.note) for each in keys.statements()
        ],
    )


ROUTES = (
    Route(
        "GET",
        _KEYS,
        get_keys,
        operation_id="getKeys",
        summary="The verifier keys of the log and of the replicas",
        description="With the signed statements that set, replaced and retired them, oldest first; they lie "
        "in the ledger $system, which is sealed and proved like any other.",
        tag="cluster",
        answers={200: Answer("The keys.", Content(JSON, key_schemas.ClusterKeys))},
    ),
    Route(
        "POST",
        _KEYS,
        post_statement,
        operation_id="postKeyStatement",
        summary="Record a signed statement about a key (steled keys makes them)",
        tag="cluster",
        leader="always",
        body=Content(TEXT, schema={"type": "string"}),
        answers={200: Answer("The keys as they are now.", Content(JSON, key_schemas.ClusterKeys))},
        problems=("key-statement-refused", "invalid-utf8", "incomplete-body", "body-too-large"),
    ),
)
