"""Every bound of the consensus package, with its unit in its name."""

ENTRY_PAYLOAD_SIZE_BYTES_MAX = 8 << 20
"""The largest proposal. An entry travels whole in one message and delays the heartbeats behind it."""

BATCH_ENTRIES_MAX = 1_024
BATCH_SIZE_BYTES_MAX = 1 << 20
"""Entries of one append message: as many as fit, but always at least one."""

IN_FLIGHT_BATCHES_MAX = 64
IN_FLIGHT_SIZE_BYTES_MAX = 8 << 20
"""Append messages sent to one follower and not yet answered."""

PROPOSALS_OUTSTANDING_MAX = 8_192
PROPOSALS_OUTSTANDING_SIZE_BYTES_MAX = 64 << 20
"""Proposals appended by this leader and not yet applied; they hold memory until then."""

READS_WAITING_MAX = 65_536
"""Read barriers waiting for a confirmation round."""

APPLY_ENTRIES_PER_TICK_MAX = 1_024
APPLY_SIZE_BYTES_PER_TICK_MAX = 8 << 20
"""Applied in one go before the node looks at its messages again, so that a replay does not stall it."""

DENIALS_BEFORE_REPORT = 20
"""Heartbeats a follower may deny an entry that it acknowledged before that is reported."""

LOG_CACHE_ENTRIES_MAX = 4_096
LOG_CACHE_SIZE_BYTES_MAX = 32 << 20
"""The end of the log that is kept in memory; older entries are read from disk."""

LOG_SCAN_ENTRIES_MAX = 4_096
"""Records read from disk in one scan while a follower is far behind."""

LOG_RETAINED_ENTRIES = 4_096
"""Entries kept although every member has them, so that a late message still finds its predecessor."""

LOG_COMPACTION_STEP_ENTRIES = 4_096
"""Deletions smaller than this are not worth a range tombstone."""

NODE_ID_LENGTH_MAX = 63
MEMBERS_MAX = 31

FRAME_SIZE_BYTES_MAX = ENTRY_PAYLOAD_SIZE_BYTES_MAX + BATCH_SIZE_BYTES_MAX
"""The largest frame taken from a peer; larger than the largest message that can be built."""

GREETING_SIZE_BYTES_MAX = 1 << 10
"""The largest frame taken from someone who has not yet said who he is."""

SEND_BUFFER_SIZE_BYTES_MAX = 32 << 20
"""Bytes waiting for one peer's socket; beyond it messages are dropped, which Raft tolerates.

Above FRAME_SIZE_BYTES_MAX, so that any one message fits an empty buffer."""

NOTICE_SIZE_BYTES_MAX = 4 << 10
NOTICE_SEND_BUFFER_SIZE_BYTES_MAX = 256 << 10
"""A notice is dropped when more than this waits for its peer's socket: Raft goes first."""

STRANGERS_MAX = 64
"""Connections, TLS handshakes included, that no member has greeted on yet. One more takes the place of the
oldest, so that a flood of strangers does not keep a member out. Members have one connection each."""

GREETING_TIMEOUT_S = 5.0
"""A stranger is given this long for the TLS handshake, and as long again for its Hello."""

ACCEPT_PAUSE_S = 0.1
"""After a connection could not be taken, for want of file descriptors."""

REFUSALS_REPORTED_MAX = 256
"""Pairs of peer and reason that were logged as a warning; what is new beyond them is logged for debugging."""

CONNECT_TIMEOUT_S = 2.0
RECONNECT_DELAY_S_MIN = 0.05
RECONNECT_DELAY_S_MAX = 1.0

LINK_SILENCE_MS_MAX = 3_000
"""A link whose bytes stay unacknowledged for this long is given up and dialled again."""
