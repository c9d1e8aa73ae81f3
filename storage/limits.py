"""Every bound of the storage package, with its unit in its name."""

PAYLOAD_SIZE_BYTES_MAX = 1 << 20
"""The largest canonical document."""

OPERATIONS_PER_TRANSACTION_MAX = 1_000
CONDITIONS_PER_TRANSACTION_MAX = 1_000

CONDITION_SCAN_ROWS_MAX = 10_000
"""A prefix condition that would look at more keys than this is refused rather than stall apply."""

ERASURE_REVISIONS_MAX = 10_000
"""Revisions that one erasure may take; their rows are written again in one batch."""

ERASURE_WALK_ROWS_MAX = 100_000
"""Revisions of a document that an erasure looks through for the versions it names."""

ERASURE_ANSWERS_APART_MAX = 16
"""First answers that an erasure has rewritten one by one; beyond, all of the ledger's at once."""

ERASURE_FILES_TIMEOUT_S = 60.0
"""How long files that RocksDB no longer needs may take to disappear after a compaction."""

REFUSALS_KEPT_PER_LEDGER = 100_000
"""Refused transactions leave no block; the newest of them stay answerable in a ring of this length."""

LEDGERS_MAX = 1_000

SCAN_LIMIT_MAX = 1_001
"""Rows that one call of a view may return: a page of 1,000, and one to know whether there are more."""

BLOCK_CACHE_SIZE_BYTES = 48 << 20
WRITE_BUFFER_SIZE_BYTES = 32 << 20
WRITE_BUFFERS_MAX = 3
LEVEL_ZERO_FILES = 12
"""Memory tables written out that are merged at once into what lies below them. With RocksDB's default of
four, of 16 MiB each, some hundred MB were written again for every 64 MiB that came; a lookup costs about
0.2 us more for each that waits."""
LEVEL_ZERO_FILES_QUIET = 4
"""As LEVEL_ZERO_FILES, while hardly anybody writes."""
LEVEL_ZERO_FILES_SLOW = 24
LEVEL_ZERO_FILES_MAX = 40
"""Past so many, writes are slowed down, and stopped, until some are merged."""
RAFT_WRITE_BUFFER_SIZE_BYTES = 16 << 20
WAL_SIZE_BYTES_MAX = 256 << 20
OPEN_FILES_MAX = 256

TILE_CACHE_ENTRIES = 256
"""Full tiles of one ledger (about 40 KiB each with the nodes inside) kept in memory for proofs."""

WRITERS_CACHED = 256
"""Writers whose transaction information is kept as it is hashed."""

SNAPSHOT_TABLE_SIZE_BYTES_MAX = 4 << 20
"""The table of a snapshot's files: enough for about 150,000 of them."""

SNAPSHOT_READ_SIZE_BYTES = 1 << 20
SNAPSHOT_READ_AHEAD_SIZE_BYTES = 4 << 20

SNAPSHOT_DISK_FREE_SIZE_BYTES_MIN = 256 << 20
"""A snapshot is neither made nor kept when less would stay free for the node's own writes."""

START_DISK_FREE_SIZE_BYTES_MIN = 32 << 20
"""With less a node does not start: it would write out its memory tables, join, and fail in the middle."""

SEAL_KEYS_MAX = 8_192
SEAL_KEYS_MIN = 2_048
SEAL_KEYS_TIMES_BUCKETS = 1 << 28
"""Keys revised since the newest seal at which the leader proposes one: the most of it in a ledger of up to
200,000 keys, the least from a million on. The fewer seals, the fewer hashes a key; but while one is applied
nothing else is done, and each of its keys takes two microseconds in a small ledger, eight in a large one."""

SEAL_KEYS_STREAMED_FACTOR = 4
"""Times as many while only streams write, for whom nobody waits one by one."""

SEAL_SLICE_KEYS = 256
"""Keys revised at which they are put into the buckets of the next seal, ahead of it."""

SEAL_STAGED_ROWS_MAX = (SEAL_KEYS_STREAMED_FACTOR + 2) * SEAL_KEYS_MAX
"""Rows put into buckets in memory for the next seal; past this many it is not expected soon."""

STATE_BUCKETS_KEPT_MAX = 98_304
"""Buckets in memory, of all ledgers of a node: about 900 bytes each, 1.3 KiB at most. Those that the disk has
make room for those that it has not yet."""

STATE_REDO_MAX = 262_144
"""Rows and blocks that a start does again because the disk had not got all buckets: about a second."""

STATE_WRITE_BACK_MIN = 64
STATE_WRITE_BACK_SHARE = 8
"""After an entry so many buckets are written back, and one of so many that are too many or too old."""

STATE_WRITE_BACK_BATCH = 1_024
"""Buckets in one batch when all are written back."""

RECENT_CURRENT_ROWS = 32_768
"""Documents written again lately whose current rows stay in memory, and at most as many older ones: about 300
bytes each, 850 at most."""

CURRENT_ROWS_ASCENDING_MIN = 8
"""After so many current rows of an entry that were looked up one after the other, each behind the one before,
a cursor walks on from the last."""

UNSEALED_KEYS_KEPT_MAX = 65_536
"""Past this many further keys since the newest seal, what was revised is read from the journal again when it
is sealed. With sealing on it is never reached."""
