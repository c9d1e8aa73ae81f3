"""Rotating and retiring keys of a running cluster: what `steled keys` does.

The statements are made and signed here, beside the private keys, and recorded by whichever node leads
(node/key_journal.py). Nodes take up a new key when they have applied the statement that names it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node import limits
from node.config import Config
from node.key_files import write_key_file
from node.key_journal import SYSTEM_LEDGER
from node.own_keys import LogKeys
from node.signing_keys import CosignerKeys, encode_private_key, load_log_keys, next_key_file
from stele.format.key_statement import retire_replica_text, set_log_text, set_replica_text
from stele.format.note import SigningKey, sign_note
from stele.verify.errors import VerificationError
from stele.verify.key_history import KeyHistory

_KEYS_PATH = "/v1/cluster/keys"


class KeyRotationFailed(Exception):
    """Nothing was recorded; the message says why."""


def rotate_replica(config: Config, *, ml_dsa: bool) -> list[str]:
    """Gives this node a new cosigner key, which its present one and the log's sign; returns the new ones.

    Raises KeyRotationFailed, SigningKeyInvalid, OSError.
    """
    history = _history(config)
    path = config.cosigner_key_path
    present = CosignerKeys.read(f"{config.cluster}/{config.node_id}", path)
    if [str(key) for key in history.replicas.get(config.node_id, ())] not in ([], present.verifier_keys):
        raise KeyRotationFailed(f"the journal names another key of {config.node_id} than {path} holds")
    retired = {str(key) for _, key in history.retired}
    following = _following(path, present.plain.name, ml_dsa=ml_dsa)
    signers = [_log_signer(config, history), following.plain]
    if not retired.intersection(present.verifier_keys):
        signers.insert(1, present.plain)
    _record(config, sign_note(set_replica_text(config.node_id, following.verifier_keys), *signers))
    return following.verifier_keys


def _following(path: Path, name: str, *, ml_dsa: bool) -> CosignerKeys:
    """The key in the next file: on disk before the journal names it, and never replaced by another, since the
    journal may name it although nobody here was told."""
    waiting = next_key_file(path)
    if waiting.exists():
        return CosignerKeys.read(name, waiting)
    following = CosignerKeys.generate(name, ml_dsa=ml_dsa)
    following.write(waiting)
    return following


def add_log_key(config: Config) -> bool:
    """Puts a new key behind the log's present one in log_key_file; False when one waits there already.

    Raises KeyRotationFailed, SigningKeyInvalid, OSError.
    """
    if _next_log_key(config, _history(config)) is not None:
        return False
    keys = [*load_log_keys(config.log_key_file), Ed25519PrivateKey.generate()]
    write_key_file(config.log_key_file, b"".join(encode_private_key(key) for key in keys))
    return True


def rotate_log(config: Config) -> str:
    """Has the log sign with the key that waits in log_key_file from now on; returns that key.

    Raises KeyRotationFailed, SigningKeyInvalid.
    """
    history = _history(config)
    following = _next_log_key(config, history)
    if following is None:
        raise KeyRotationFailed(
            f"{config.log_key_file} holds no new key; make one with steled keys add-log-key, and bring the "
            "file to every node first"
        )
    note = sign_note(set_log_text(following.verifier_key()), _log_signer(config, history), following)
    _record(config, note)
    return following.verifier_key()


def retire_replica(config: Config, node_id: str) -> list[str]:
    """Takes the keys of a replica out of use, which the log's key alone can; returns them.

    Raises KeyRotationFailed, SigningKeyInvalid.
    """
    history = _history(config)
    keys = [str(key) for key in history.replicas.get(node_id, ())]
    if not keys:
        raise KeyRotationFailed(f"replica {node_id} has no key that could be retired")
    _record(config, sign_note(retire_replica_text(node_id, keys), _log_signer(config, history)))
    return keys


def _next_log_key(config: Config, history: KeyHistory) -> SigningKey | None:
    known = {key.public_key for key in [*history.former_logs, *filter(None, [history.log])]}
    for key in load_log_keys(config.log_key_file):
        if key.public_key().public_bytes_raw() not in known:
            return SigningKey(_log_name(config), key)
    return None


def _log_signer(config: Config, history: KeyHistory) -> SigningKey:
    signers = LogKeys(config.log_key_file).signers(_log_name(config), history)
    if not signers:
        raise KeyRotationFailed(f"{config.log_key_file} does not hold the log's present key")
    return signers[0]


def _log_name(config: Config) -> str:
    return f"{config.cluster}/{SYSTEM_LEDGER}"


def _history(config: Config) -> KeyHistory:
    """What the cluster has recorded, checked statement by statement."""
    history = KeyHistory()
    try:
        for each in asyncio.run(_ask(config, "GET", None))["statements"]:
            history.apply(each["statement"])
    except VerificationError as error:
        raise KeyRotationFailed(f"the cluster shows a statement that does not count: {error}") from error
    if history.log is None:
        raise KeyRotationFailed("the cluster has not recorded its log key yet; try again in a moment")
    return history


def _record(config: Config, note: str) -> None:
    asyncio.run(_ask(config, "POST", note))


async def _ask(config: Config, method: str, body: str | None) -> Any:
    """The answer of this node, which passes on to the leader what only the leader can do."""
    (url,) = [peer.http_url for peer in config.peers if peer.id == config.node_id]
    timeout = aiohttp.ClientTimeout(total=limits.FORWARD_ANSWER_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url + _KEYS_PATH, data=body) as response,
        ):
            answer = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise KeyRotationFailed(f"{url} does not answer: {error}") from error
    if response.status != 200:
        raise KeyRotationFailed(f"{url} answered {response.status}: {answer.get('detail')}")
    return answer
