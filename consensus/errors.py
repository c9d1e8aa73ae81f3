"""Everything the consensus package raises."""

from __future__ import annotations


class ConsensusError(Exception):
    """Base of the errors below."""


class NotLeader(ConsensusError):
    """Only the leader can do this. `leader_id` is the leader this node knows of, or None."""

    def __init__(self, leader_id: str | None) -> None:
        super().__init__(f"this node is not the leader; the leader is {leader_id or 'unknown'}")
        self.leader_id = leader_id


class ProposalTooLarge(ConsensusError):
    """The payload is larger than one log entry may be."""

    def __init__(self, size_bytes: int, size_bytes_max: int) -> None:
        super().__init__(f"a proposal of {size_bytes} bytes; at most {size_bytes_max} are allowed")
        self.size_bytes = size_bytes
        self.size_bytes_max = size_bytes_max


class TooManyProposals(ConsensusError):
    """Too many proposals, or too many bytes of them, wait to be committed. Try again later."""


class OutcomeUnknown(ConsensusError):
    """Leadership was lost before the proposal committed. It may still commit, or never."""


class ReadFailed(ConsensusError):
    """Leadership was lost, or could not be confirmed, before a read barrier was passed."""


class TransferFailed(ConsensusError):
    """The leadership could not be given to another member; whoever had it goes on, if it still can."""


class MalformedMessage(ConsensusError):
    """A peer sent what no correct peer sends. The message had no effect."""


class VersionsDoNotMeet(MalformedMessage):
    """The peer speaks no version of the protocol that this node speaks."""


class IdentityRefused(ConsensusError):
    """A certificate of the cluster's authority, but not that of the member who should be there."""


class CredentialsInvalid(ConsensusError):
    """Certificate, key or authority cannot be used. The message names the file, never what is in it."""


class LogCorrupt(ConsensusError):
    """The log on disk is not what was written. `index` names the first bad entry, if it is an entry."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class InvariantBroken(ConsensusError):
    """Something that Raft rules out has happened. The node stops before it can answer wrongly."""


class EntryNotApplied(ConsensusError):
    """The state machine failed on a committed entry; the cause says why. The node stops: what the machine
    has in memory may be ahead of its disk."""


class ReplicaStopped(ConsensusError):
    """The replica was stopped, or stopped itself; see what its `on_fatal` was given."""
