"""Every bound of the node package, with its unit in its name.

Going past one is back-pressure or a typed problem, never memory growth.
"""

from __future__ import annotations

# --- one HTTP request -------------------------------------------------------------------------

DOCUMENT_SIZE_BYTES_MAX = 1 << 20
"""The largest canonical document; also the largest single-document request body."""

TRANSACTION_SIZE_BYTES_MAX = 4 << 20
"""The largest body of POST …/transactions, and the largest command."""

SETTINGS_SIZE_BYTES_MAX = 64 << 10
"""The largest body of a request that carries settings: a ledger or a table."""

REQUEST_LINE_SIZE_BYTES_MAX = 8 << 10
HEADER_SIZE_BYTES_MAX = 16 << 10
QUERY_PARAMETERS_MAX = 16

CONNECTIONS_MAX = 2_048
"""Open connections of clients. One more is closed at once."""

READ_BUFFER_SIZE_BYTES = 64 << 10
"""What aiohttp reads ahead of a handler on one connection (it pauses the socket at twice this)."""

PATH_SEGMENTS_MAX = 9
KNOWN_PATHS_MAX = 4_096
"""Beginnings of paths that the router remembers as resolved."""

REQUEST_ID_LENGTH_MAX = 64
IDEMPOTENCY_KEY_LENGTH_MAX = 255

LINGERING_TIMEOUT_S = 3.0
"""How long the rest of a refused body is read and dropped, so that its sender gets to see the answer."""

BODY_TIMEOUT_S = 30.0
"""A body that stops arriving for this long is given up: nothing of it is written."""

BODY_DEADLINE_S = 300.0
"""And one that comes drop by drop is given up after this."""

HALF_CLOSED_POLL_S = 0.02
"""How often a connection whose client has stopped sending is looked at while requests wait in it."""

COMMIT_TIMEOUT_S = 10.0
"""A commit that takes longer is answered 503 outcome-unknown; its transaction id settles it later."""

MIN_SEQ_TIMEOUT_S = 5.0
"""How long a snapshot read waits for the block that `min_seq` asks for."""

SEAL_INTERVAL_S = 1.0
"""The longest that a block stays unsealed while the cluster is well."""

SEAL_AHEAD_PAUSE_S = 0.001
"""How long the work ahead of a seal lets other things go first after an entry."""

SEAL_TIMEOUT_S = 5.0
"""How long a request for a proof waits for a seal that covers what it asks about."""

READ_TIMEOUT_S = 5.0
"""How long a strong read waits for the leader to confirm its leadership."""

REQUESTS_IN_FLIGHT_MAX = 4_096
BODIES_IN_FLIGHT_BYTES_MAX = 128 << 20
"""Request bodies being read or handled at once, over all connections."""

RETRY_AFTER_S = 1

# --- group commit -----------------------------------------------------------------------------

GROUP_COMMANDS_MAX = 1_024
GROUP_SIZE_BYTES_MAX = 384 << 10
"""A Raft entry stays below this unless one command of a queue alone is larger. Larger ones make no bulk load
faster, because nodes wait for each other while they work on one, and make everybody else wait longer."""

ENTRIES_IN_FLIGHT_MAX = 2
"""Entries proposed and not applied yet."""

GROUP_AHEAD_COMMANDS_MIN = 32
GROUP_AHEAD_SIZE_BYTES_MIN = 64 << 10
"""With an entry in flight, a further one goes only with this many commands or bytes: small writes that share
an entry save more work than they wait."""

GATHER_S = 0.008
GATHERED_SHARE = 0.97
GATHERED_COMMANDS_MIN = 8
"""With nothing in flight, and after an entry of at least so many commands, those that come wait this long at
most for as many as this share of them: most clients that it answered write again. Below 1, so that groups
shrink where clients do not wait for answers."""

PENDING_COMMANDS_MAX = 8_192
PENDING_SIZE_BYTES_MAX = 64 << 20

ENTRY_SIZE_BYTES_MAX = 7 << 20
"""A Raft entry's commands, however they came to share it; consensus takes 8 MiB."""

COMMAND_SIZE_BYTES_MAX = 6 << 20
"""One encoded command: a transaction of the largest size with the salts of its operations."""

ONLY_STREAMS_AFTER_S = 1.0
"""After so long in which nobody submitted a command of his own, only streams write."""

COMMIT_SWEEP_S = 0.1
"""How often commands that waited too long are looked for."""

# --- reads ------------------------------------------------------------------------------------

PAGE_LIMIT_DEFAULT = 100
PAGE_LIMIT_MAX = 1_000
PAGE_SIZE_BYTES_MAX = 8 << 20
"""A page ends early when its documents reach this size."""

BLOCKS_LIMIT_MAX = 1_000

EXPORT_CHUNK_SIZE_BYTES = 256 << 10
EXPORT_CHUNK_BLOCKS_MAX = 256
"""An export gives the event loop back after so many blocks."""

# --- bulk load --------------------------------------------------------------------------------

BULK_CHUNK_LINES_MAX = 500
BULK_CHUNK_SIZE_BYTES_MAX = 512 << 10
BULK_CHUNKS_IN_FLIGHT_MAX = 6
"""Chunks of one stream that wait for their commit; further lines are not read meanwhile."""

BULK_LINE_SIZE_BYTES_MAX = DOCUMENT_SIZE_BYTES_MAX + (4 << 10)
"""One line: a document, and its table and key."""

BULK_PAUSE_S = 0.010
"""A partial chunk is committed when the input pauses for this long."""

BULK_IDLE_TIMEOUT_S = 300.0

# --- erasure ----------------------------------------------------------------------------------

ERASURE_VERSIONS_MAX = 1_000
"""Versions that one request may name; "all" takes as many as storage erases at once."""

ERASURE_REASON_LENGTH_MAX = 1_000

ERASURE_POLL_S = 0.25
"""How often a node looks whether there is something to clear from its log and files."""

ERASURES_AT_ONCE_MAX = 64
"""Erasures whose files are rewritten together."""

ERASURE_RETRY_S = 10.0
"""After files stayed that RocksDB does not need any more."""

ERASURE_ASK_TIMEOUT_S = 2.0
"""How long another node is given to say how far it is."""

# --- scrub ------------------------------------------------------------------------------------

WITNESS_INTERVAL_S = 60.0
WITNESS_PAUSE_S = 0.02
"""Between two rounds, however often somebody waits for a witness."""

WITNESSED_SIZES_MAX = 10_000
"""Ledgers and witnesses of which it is remembered what was cosigned last."""

PROVED_TABLES_MAX = 64
PROVED_LEDGERS_MAX = 64
"""Of which the parts that proofs share are kept."""

SCRUB_ROWS_AT_ONCE = 4
"""Between two pauses."""

SCRUB_ROWS_PER_S = 80
"""By default, which takes less than a hundredth of a processor."""

SCRUB_ROUND_PAUSE_S = 60.0
"""After the last block, before the first one again."""

# --- compacting -------------------------------------------------------------------------------

COMPACTING_PERIOD_S = 0.25
QUIET_ROWS_A_PERIOD_MAX = 250
"""Rows that may be written in a period that still counts as quiet: some 200 single puts a second."""
QUIET_PERIODS_MIN = 4
"""So many in a row make a quiet time, which the first one that is not ends."""

# --- forwarding -------------------------------------------------------------------------------

FORWARD_CONNECTIONS_MAX = 256
FORWARD_CONNECT_TIMEOUT_S = 2.0
FORWARD_ANSWER_TIMEOUT_S = COMMIT_TIMEOUT_S + 5.0
FORWARD_CHUNK_SIZE_BYTES = 64 << 10

# --- replication ------------------------------------------------------------------------------

CATCH_UP_RATE_MIB_S = 32
"""What a leader sends to nodes that are far behind, besides what is new. Above what clients write, or they
would never catch up."""

LOG_RETAINED_MIB = 256

CLOCK_DRIFT_MAX_PPM = 10_000
"""By how much clocks may run fast or slow when reads use leases."""

# --- process ----------------------------------------------------------------------------------

SHUTDOWN_REQUESTS_TIMEOUT_S = 5.0
SHUTDOWN_COMMITS_TIMEOUT_S = 3.0
KEEPALIVE_TIMEOUT_S = 75.0
LISTEN_BACKLOG = 1_024
VOTERS_MAX = 9
"""More voters make every commit slower and no safer in practice."""

MEMBER_SILENCE_S_MAX = 3.0
"""A member that the leader has not heard for this long is not healthy. Heartbeats go ten times a second."""

MEMBERSHIP_SETTLE_TIMEOUT_S = 3.0
"""How long a change of the membership waits for the one before it."""

GARBAGE_THRESHOLD_OBJECTS = 50_000
"""New objects before Python looks for cycles. Requests make thousands that live for a moment without any."""

FATAL_EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: an invariant broke or data is damaged. Starting again changes nothing."""

DISK_EXIT_CODE = 74
"""EX_IOERR: the disk is full or failed. Starting again is right, and works once the disk does."""

DISK_FREE_ALARM_SIZE_BYTES = 512 << 20
"""With less than this free, /readyz has an alarm; with half of it, no snapshots are made."""

DISK_WATCH_PERIOD_S = 10.0

# --- certificates -----------------------------------------------------------------------------

AUTHORITY_VALID_DAYS = 3_650
CERTIFICATE_VALID_DAYS = 365
CERTIFICATE_VALID_DAYS_MAX = 3_650

CERTIFICATE_EXPIRES_SOON_S = 14 * 86_400
"""A node warns on starting when its certificate has less left than this."""

# --- demo cluster -----------------------------------------------------------------------------

DEMO_NODES_MAX = VOTERS_MAX
DEMO_CERTIFICATE_RENEWAL_DAYS = 90
"""A demo that starts renews certificates that have no more left than this."""
DEMO_RESTART_DELAY_S = 0.2
DEMO_RESTART_DELAY_S_MAX = 30.0
"""A node whose disk is full or fails is started again for ever, with pauses that double up to this."""

DEMO_HOLD_POLL_S = 0.5
DEMO_QUICK_DEATH_S = 5.0
DEMO_QUICK_DEATHS_MAX = 5
DEMO_READY_TIMEOUT_S = 60.0
DEMO_STOP_TIMEOUT_S = 20.0

DRILL_NODES_MIN = 3
DRILL_SCRUB_ROWS_PER_S = 2_000
"""Of a node that was altered: nobody wants to wait for what takes hours on a real one."""
DRILL_LINE_SIZE_BYTES = 64 << 10
DRILL_LOG_SIZE_BYTES = 1 << 20

# --- checkpoints and cosignatures -------------------------------------------------------------

COSIGNING_PAUSE_S = 0.02
"""At least this long between two rounds of cosigning, each of which syncs the disk at most a few times."""

COSIGNING_IDLE_S = 0.25
"""A round comes after this long even when nothing was applied and nothing was said."""

NOTICES_WAITING_MAX = 256
"""Notices of one peer that wait for a round. One more drops the oldest."""

NOTICES_PER_ROUND_MAX = 32
"""Notices of one peer that a round takes: checking a signature takes about 0.15 ms."""

EARLY_COSIGNATURES_MAX = 256
"""Cosignatures of trees that this node has not got yet."""

INCOMPLETE_CHECKPOINTS_MAX = 2_048
"""Checkpoints whose missing cosignatures are asked for again."""

ASK_AGAIN_S_MIN = 0.3
ASK_AGAIN_S_MAX = 10.0
ASK_AGAIN_TIMES_MAX = 6
"""How often for a checkpoint that is not the newest any more; for the newest there is no end."""

COSIGNATURES_PER_ANSWER_MAX = 64

CONTRADICTIONS_PER_LEDGER_MAX = 64

DISPUTE_TIMEOUT_S = 10.0
"""A node with another journal than a leader had stops when the others do not say in time who is right."""

CHECKPOINTS_WEIGHED_MAX = 64
"""Checkpoints looked at to see whether a majority shares this node's journal."""

PROOF_COSIGNATURES_TIMEOUT_S = 1.0
"""How long a proof waits for the cosignatures of its seal before it is made anew for a newer seal."""

COSIGNATURES_TIMEOUT_S = 5.0
"""How long a request for a checkpoint waits for the cosignatures that it asks for."""

CHECKPOINTS_LIMIT_MAX = 200
"""Checkpoints of a page."""

KEY_PUBLISHING_PAUSE_S = 0.3
"""Between two tries to have this node's keys recorded."""

KEY_CHECK_S = 5.0
"""How often this node's keys are held against the journal while nothing new is in it."""

KEY_STATEMENT_SIZE_BYTES_MAX = 16 << 10
KEY_FILE_SIZE_BYTES_MAX = 64 << 10
