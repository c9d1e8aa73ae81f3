"""The settings all commands share: where the cluster is, whom to trust, how to print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stele.cli.exits import InputError, UsageError, complain
from stele.cli.output import Format, Printer
from stele.client import BlockingClient, CheckpointFile, TrustPolicy
from stele.client.limits import TIMEOUT_S_DEFAULT
from stele.client.memory import state_path
from stele.verify.limits import POLICY_SIZE_BYTES_MAX
from stele.verify.policy import TrustPolicy as Policy

ENDPOINTS_DEFAULT = "http://127.0.0.1:7400"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where the cluster is and whom to trust."""

    endpoints: Annotated[str, Parameter(env_var="STELE_ENDPOINTS")] = ENDPOINTS_DEFAULT
    """Addresses of one or more nodes, separated by commas."""

    verifier_key: Annotated[str | None, Parameter(env_var="STELE_VERIFIER_KEY")] = None
    """Key of the log, as the operator publishes it. With it, reads are verified."""

    policy: Annotated[Path | None, Parameter(env_var="STELE_POLICY")] = None
    """A trust policy (C2SP tlog-policy): the log's key, and which replicas and witnesses must cosign."""

    timeout_s: Annotated[float, Parameter(env_var="STELE_TIMEOUT_S")] = TIMEOUT_S_DEFAULT
    """Deadline of one call with all its retries, in seconds."""

    def open(self, *, first_use: bool = False) -> BlockingClient:
        """A client. `first_use`: without a key, the one the server shows is pinned and trusted."""
        trust = self.trust(first_use=first_use)
        return BlockingClient(self.endpoints, trust=trust, memory=self.memory(), timeout_s=self.timeout_s)

    def trust(self, *, first_use: bool = False) -> TrustPolicy | None:
        """Whom to trust, as far as this was said. Raises UsageError, InputError and NotTrusted."""
        if self.policy is not None:
            if self.verifier_key is not None:
                raise UsageError("give either --policy or --verifier-key: a policy names the log's key")
            return TrustPolicy.parse(str(read_policy(self.policy)))
        if self.verifier_key is not None:
            return TrustPolicy(self.verifier_key)
        return TrustPolicy.on_first_use() if first_use else None

    def log_trust(self, policy: Policy) -> TrustPolicy:
        """The logs of a policy alone, without its quorum. Raises NotTrusted."""
        return TrustPolicy(*map(str, policy.logs))

    def trusted_key(self, client: BlockingClient, ledger: str) -> str:
        """The key that `client` trusts for a ledger; says so when that is only since now."""
        known = self.memory().pinned_key(client.endpoints, ledger)
        key = client.ledger(ledger).verifier_key()
        if self.verifier_key is None and self.policy is None and known is None:
            complain(f"trusting, from now on, the key that the server shows: {key}")
            complain("compare it with what the operator publishes; the first time proves nothing")
        return key

    def memory(self) -> CheckpointFile:
        """The checkpoints this user has seen."""
        return CheckpointFile(state_path())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """How to print."""

    format: Annotated[Format, Parameter(name=["--output", "-o"], env_var="STELE_OUTPUT")] = "table"
    """table (plain when piped), json or csv."""

    def printer(self) -> Printer:
        return Printer(self.format)


def read_policy(path: Path) -> Policy:
    """A policy file. Raises InputError, and VerificationError when it is none."""
    try:
        with path.open("rb") as file:
            return Policy.parse(file.read(POLICY_SIZE_BYTES_MAX + 1))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _check_dash(kind: object, value: object) -> None:
    if isinstance(value, str) and value.startswith("-") and value != "-":
        raise ValueError(f"there is no option {value}")


InputArgument = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_check_dash)]
"""A positional argument for which "-" means standard input."""

CONNECTION = Connection()
OUTPUT = Output()
