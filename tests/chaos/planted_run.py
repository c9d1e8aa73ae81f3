"""One run of the laboratory with a planted bug, or "none".

Arguments: BUG FOLDER KINDS SECONDS SEED; the kinds of faults with ";" between them.
Prints the broken promises that it finds, a line each. Its own process, because a run happens in namespaces.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from chaos.lab import namespaces
from chaos.run import Plan, run

_NODES = 3
_PLANTED = Path(__file__).with_name("planted")


def main(bug: str, folder: Path, kinds: str, seconds: float, seed: int) -> None:
    environment = {"PYTHONPATH": str(_PLANTED), "PLANTED_BUG": bug} if bug != "none" else {}
    plan = Plan(
        folder.resolve(),
        seed,
        seconds,
        _NODES,
        _NODES,
        kinds=tuple(kinds.split(";")),
        environment=environment,
    )
    folder.mkdir(parents=True)
    result = asyncio.run(run(plan, lambda line: print(line, file=sys.stderr, flush=True)))
    for anomaly in result.anomalies:
        print(anomaly)


if __name__ == "__main__":
    if not namespaces.inside():
        namespaces.enter("tests.chaos.planted_run")
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]), int(sys.argv[5]))
