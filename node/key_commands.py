"""The commands `steled keys …`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from node import key_rotation
from node.config import Config
from node.key_rotation import KeyRotationFailed
from node.signing_keys import SigningKeyInvalid

ConfigFile = Annotated[Path | None, Parameter(help="TOML file with the node's settings.")]

keys_app = App(name="keys", help="Rotate and retire the keys that sign checkpoints, while the cluster runs.")


@keys_app.command
def rotate_replica(
    settings: Config,
    *,
    config: ConfigFile = None,
    ml_dsa: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Give this node a new cosigner key. Its present key and the log's key sign for it.

    Parameters
    ----------
    ml_dsa
        Have the node cosign with an ML-DSA-44 key as well, which withstands quantum computers.
    """
    return _run(lambda: "\n".join(key_rotation.rotate_replica(settings, ml_dsa=ml_dsa)))


@keys_app.command
def add_log_key(settings: Config, *, config: ConfigFile = None) -> int:
    """Put a new log key into log_key_file, behind the present one. Bring the file to every node then."""

    def work() -> str:
        added = key_rotation.add_log_key(settings)
        return f"{settings.log_key_file}: {'a new key was added' if added else 'a new key waits already'}"

    return _run(work)


@keys_app.command
def rotate_log(settings: Config, *, config: ConfigFile = None) -> int:
    """Have the log sign with the new key from now on. The present key and the new one sign for it."""
    return _run(lambda: key_rotation.rotate_log(settings))


@keys_app.command
def retire_replica(node: str, /, settings: Config, *, config: ConfigFile = None) -> int:
    """Take the keys of a replica out of use, because they are lost or were stolen.

    Parameters
    ----------
    node
        Name of the node whose keys count for nothing from now on.
    """
    return _run(lambda: "\n".join(key_rotation.retire_replica(settings, node)))


def _run(work: Callable[[], str]) -> int:
    try:
        done = work()
    except (KeyRotationFailed, SigningKeyInvalid, OSError) as error:
        sys.stderr.write(f"steled: {error}\n")
        return 1
    sys.stdout.write(f"{done}\n")
    return 0
