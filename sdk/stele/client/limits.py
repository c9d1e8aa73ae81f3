"""Every bound of the client, with its unit in its name."""

from __future__ import annotations

TIMEOUT_S_DEFAULT = 30.0
"""A whole call, with all its retries."""

ATTEMPT_TIMEOUT_S = 12.0
"""One request without a long body: longer than the 10 s after which a node answers outcome-unknown."""

STATUS_TIMEOUT_S = 3.0
"""One request for the status of the cluster, which nodes have at hand: the one that is asked may hang."""

CONNECT_TIMEOUT_S = 2.0
STALL_TIMEOUT_S = 30.0
"""A stream that brings nothing for so long, while something is owed, counts as broken."""

RETRY_WAIT_INITIAL_S = 0.05
RETRY_WAIT_MAX_S = 2.0
RETRY_WAIT_JITTER_S = 0.1
RETRY_AFTER_S_MAX = 10.0
"""A server's Retry-After is believed up to here."""

ENDPOINT_DOWN_S = 3.0
"""An endpoint that refused a connection is asked last for so long."""

CLUSTER_REFRESH_S_MIN = 1.0
"""The list of nodes is fetched at most this often."""

ENDPOINTS_MAX = 32
CONNECTIONS_MAX = 256

ANSWER_SIZE_BYTES_MAX = 64 * 1024 * 1024
"""One answer that is not a stream. A page of documents is the largest of them."""

LINE_SIZE_BYTES_MAX = 64 * 1024 * 1024
"""One line of an export: a whole block. The server bounds a transaction well below."""

PAGE_SIZE_DEFAULT = 500
PAGE_SIZE_MAX = 1000

BULK_CHUNK_LINES_MAX = 512
BULK_CHUNK_SIZE_BYTES_MAX = 256 * 1024
BULK_WINDOW_LINES_MAX = 32_768
BULK_WINDOW_SIZE_BYTES_MAX = 32 * 1024 * 1024
"""What is sent and not acknowledged is kept for sending again; the source waits when the window is full."""

EXPORT_FAILURES_MAX = 6
"""Broken connections in a row, with no block in between, after which an export gives up."""

BULK_FLUSH_S = 0.05
"""Lines from a source that pauses are sent after so long, also when the chunk is not full."""

BULK_REFUSALS_KEPT_MAX = 1000
"""Refused lines a report lists; all are counted."""

BULK_NO_PROGRESS_S_MAX = 60.0
"""A load that gets no acknowledgement for so long, over all its reconnections, gives up."""

BRIDGE_BATCH_ITEMS_MAX = 512
BRIDGE_BATCH_S_MAX = 0.005
"""How much a blocking iterator fetches from the event loop at once."""


MEMORY_SIZE_BYTES_MAX = 16 * 1024 * 1024
MEMORY_ENTRIES_MAX = 10_000

WITNESS_ATTEMPTS_MAX = 3
"""A witness says which size it has; somebody else may submit another in between."""

WITNESS_ANSWER_SIZE_BYTES_MAX = 64 * 1024
