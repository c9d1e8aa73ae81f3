"""Every bound and default of the benchmarks, with its unit."""

from typing import Final

CONNECTIONS: Final = (1, 16, 64, 256)
CONNECTIONS_QUICK: Final = (1, 64)
SECONDS_A_MEASUREMENT: Final = 3.0
SECONDS_A_MEASUREMENT_MAX: Final = 600.0
ROUNDS: Final = 4
# Peers that used so little of the processors for so long are at rest; Stele's nodes wait a second before they
# take the time for merges.
REST_CORES_MAX: Final = 0.3
REST_S: Final = 2.0
REST_PERIOD_S: Final = 0.25
REST_TIMEOUT_S: Final = 60.0
FILL_PERIOD_S: Final = 1.0

# A put goes to one of this many keys, in turn; a get asks for the same ones.
KEYS: Final = 20_000
BULK_STREAMS: Final = (1, 4)
BULK_DOCUMENTS: Final = 200_000
BULK_DOCUMENTS_QUICK: Final = 40_000
DOCUMENTS_MAX: Final = 50_000_000
# What is handed to a connection at once; beyond it the generator waits for the peer.
BULK_CHUNK_LINES: Final = 200
# etcd refuses a transaction of more than 128 operations (--max-txn-ops).
ETCD_TRANSACTION_OPERATIONS: Final = 128

RESPONSE_SIZE_BYTES_MAX: Final = 1 << 20
SAMPLES_MAX: Final = 20_000_000
# How long a connection may stay without an answer before the run is given up.
ANSWER_TIMEOUT_S: Final = 30.0
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
BULK_ATTEMPTS_MAX: Final = 20
BULK_RESUME_PAUSE_S: Final = 0.5
FILL_ATTEMPTS_MAX: Final = 200
BULK_TIMEOUT_S: Final = 1800.0

MEMORY_DOCUMENTS: Final = 1_000_000
MEMORY_DOCUMENTS_A_STREAM: Final = 50_000
STATE_MAP_DOCUMENTS: Final = 1_000_000
STATE_MAP_CHUNK_DOCUMENTS: Final = 500
# Lines of the table, and keys whose proofs are made and checked.
STATE_MAP_LINES: Final = 10
STATE_MAP_PROOFS: Final = 10_000

MEMORY_READ_PERIOD_S: Final = 0.5
NODE_MEMORY_BYTES_MAX: Final = 400 * 1000 * 1000

CATCH_UP_WRITES: Final = 1_000_000
CATCH_UP_LAG_ENTRIES: Final = 64
CATCH_UP_TIMEOUT_S: Final = 600.0
