"""Every bound of the laboratory, with its unit in its name."""

HTTP_PORT = 7400
RAFT_PORT = 7500
"""Every node has an address of its own, so all take the same ports."""

NODES_MAX = 9
ZONES_MAX = 9

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
"""Deadlines are for machines under a load of ten and more; nothing waits longer than it has to."""
POLL_S = 0.05

OPERATION_TIMEOUT_S = 5.0
"""A client gives an operation up after so long; its outcome is then unknown."""

CONVERGE_TIMEOUT_S = 180.0
"""How long healed nodes may take to be one whole cluster, and at the end to show the same journal."""

ATTEMPT_TIMEOUT_S = 2.0
"""One attempt of an operation; the next one goes to another node."""

CLIENTS_MAX = 256
KEYS_MAX = 1_000

PROGRESS_PERIOD_S = 10.0
MINUTES_MAX = 24 * 60

OBSERVE_PERIOD_S = 0.2
OBSERVE_TIMEOUT_S = 0.7
"""How often each node is asked what it is, and when it counts as silent."""

ADMINISTRATION_TIMEOUT_S = 5.0
"""One request of a fault to the cluster's own API, such as a change of the membership."""

CHANGE_TIMEOUT_S = 120.0
"""Such a request with all its repetitions, and a new member's catching up."""

EFFECT_TIMEOUT_S = 120.0
"""How long a fault may take to hit anything, such as nodes that are still starting."""

FAIL_STOP_S = 30.0
"""How long a node may take to end after its disk failed."""

SEARCH_TIMEOUT_S = 60.0
"""For the search for linear orders, over all registers of a round."""

ROUND_S = 120.0
"""So often clients leave their documents and take new ones: what is judged together."""

OPERATIONS_MAX = 3_000_000
"""About so many operations of one run can be judged in a quarter of an hour on two cores, and kept in two
gigabytes of disk. Clients are held back to this many over the length of a run: 833 a second in an hour."""

OPEN_PER_S = 20.0
OPEN_IN_FLIGHT_MAX = 64
"""Operations of the open loop begin so often, whatever became of those before; so many may be under way."""

LOAD_LINES = 100
LOAD_PAUSE_S = 5.0
LOAD_TIMEOUT_S = 20.0
"""A bulk load has so many lines, follows the last one after such a pause, and is given up after so long."""

LIST_ELEMENTS_MAX = 40
"""A list that is as long is left for a new one, since each append writes it anew."""

VERIFY_PERIOD_S = 0.2
CHECKPOINTS_HELD_MAX = 500_000
"""A verifying reader looks so often, and holds on to at most so many checkpoints."""

QUIET_TIMEOUT_S = 60.0
"""How long nodes of whom nothing is asked any more may take to end what they were at."""

SAMPLE_PERIOD_S = 1.0
"""How often the processes' descriptors and memory are looked at."""

ZONE_LATENCY_MS = 1.0
ZONE_LATENCY_MS_MAX = 200.0
"""How long a frame takes from one zone to another, one way; a millisecond is usual within a region."""
