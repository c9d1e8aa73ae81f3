"""Every bound of the consensus package, with its unit in its name."""

ENTRY_PAYLOAD_SIZE_BYTES_MAX = 8 << 20
"""The largest proposal. An entry travels whole in one message and delays the heartbeats behind it."""

BATCH_ENTRIES_MAX = 1_024
BATCH_SIZE_BYTES_MAX = 1 << 20
"""Entries of one append message: as many as fit, but always at least one."""

IN_FLIGHT_BATCHES_MAX = 64
IN_FLIGHT_SIZE_BYTES_MAX = 8 << 20
"""Append messages sent to one follower and not yet answered."""

COMMIT_NOTICE_INTERVAL_S = 0.01
"""A follower that was told of a commit index, with entries or without, is told of a newer one in a message of
its own no sooner than this."""

PROPOSALS_OUTSTANDING_MAX = 8_192
PROPOSALS_OUTSTANDING_SIZE_BYTES_MAX = 64 << 20
"""Proposals appended by this leader and not yet applied; they hold memory until then."""

READS_WAITING_MAX = 65_536
"""Read barriers waiting for a confirmation round."""

SYNCED_AT_ONCE_SIZE_BYTES_MAX = 128 << 10
SYNCED_AT_ONCE_S_MAX = 0.002
"""A write to the log of this size is synced at once, as long as the last sync was so quick: a thread costs
the loop as much. Otherwise it has other things to do than to wait for the disk."""

MESSAGES_WAITING_MAX = 4_096
MESSAGES_WAITING_SIZE_BYTES_MAX = 64 << 20
"""Messages that came while the disk was at work; beyond these they are dropped, which Raft tolerates."""

APPLY_ENTRIES_PER_TICK_MAX = 1_024
APPLY_SIZE_BYTES_PER_TICK_MAX = 8 << 20
"""Applied in one go before the node looks at its messages again, so that a replay does not stall it."""

CLOCK_DRIFT_MAX_PPM = 10_000
"""By how much clocks may run fast or slow when reads use leases, by default: 1 %; sound ones do far less."""

DENIALS_BEFORE_REPORT = 3
"""Refusals in a row that say that a follower lacks what it acknowledged, before it is taken to have forgotten
it; one may come late."""

LOG_CACHE_ENTRIES_MAX = 4_096
LOG_CACHE_SIZE_BYTES_MAX = 32 << 20
"""The end of the log that is kept in memory; older entries are read from disk."""

LOG_SCAN_ENTRIES_MAX = 4_096
"""Records read from disk in one scan while a follower is far behind."""

LOG_RETAINED_ENTRIES = 4_096
"""Entries kept although every member has them, so that a late message still finds its predecessor."""

LOG_COMPACTION_STEP_ENTRIES = 4_096
"""Deletions smaller than this are not worth a range tombstone."""

LOG_RETAINED_SIZE_BYTES_MAX = 256 << 20
"""Entries kept for members that lag or are down, by default. Who needs older ones gets a snapshot."""

LOG_PINNED_FACTOR = 8
"""So many times that size is kept for a member that a snapshot brings up, to go on from where it ends."""

LOG_COMPACTION_STEP_SIZE_BYTES = 8 << 20
"""Deletions of this size are worth a range tombstone, however few entries they are."""

CATCH_UP_RATE_BYTES_S = 32 << 20
"""Bytes a second that a leader sends, over all, to members that are far behind."""

CATCH_UP_PACED_RATE_BYTES_S_MIN = 2 << 20
CATCH_UP_PACE_FACTOR = 2
"""While clients write, only so many times what they write goes to members that are behind, but this at least:
to apply a MiB of small documents takes a follower's processor about 70 ms."""

CATCH_UP_WRITTEN_BYTES_S_MIN = 16 << 10
"""Less than this is not taken for clients that write."""

SNAPSHOT_PACE_FACTOR = 8
"""Files take less of a processor than entries, and may go so many times as fast."""

CATCH_UP_LAG_SIZE_BYTES_MAX = 4 << 20
CATCH_UP_LAG_SIZE_BYTES_MIN = 1 << 20
"""A member that lacks more than the one is brought up at a rate, until it lacks less than the other."""

SNAPSHOT_CHUNK_SIZE_BYTES = 256 << 10
SNAPSHOT_CHUNKS_IN_FLIGHT_MAX = 16
"""Chunks sent to one follower and not yet answered."""

SNAPSHOT_RETRY_S = 10.0
"""After a snapshot could not be made, or a follower could not keep it."""

SNAPSHOT_ABANDONED_S = 60.0
"""A snapshot is kept this long for a follower that does not answer."""

LOG_UNWANTED_HELD_S = 10.0
"""What is to leave the log (erasure) is kept so long for a follower that does not answer; then it will need a
snapshot."""

MEMBERSHIP_SIZE_BYTES_MAX = 64 << 10

NODE_ID_LENGTH_MAX = 63
MEMBERS_MAX = 31

CAUGHT_UP_LAG_ENTRIES_MAX = 256
"""A learner that lacks no more of the log may be promoted."""

RETIRED_IDS_MAX = 1_024
"""Ids of removed members that a cluster remembers; they are part of every membership entry."""

ADDRESS_LENGTH_MAX = 255
"""Characters of a host (RFC 1035, section 2.3.4), of an HTTP address, and of a zone."""

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
