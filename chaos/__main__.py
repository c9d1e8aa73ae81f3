"""``python -m chaos``: the fault laboratory."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter, validators

from chaos.simulation.seeds import Size, nodes_of, parse_seeds, run
from chaos.simulation.world import play

app = App(name="python -m chaos", help=__doc__, version_flags=())


@app.command
def simulate(
    *,
    seeds: str = "0..299",
    nodes: Size = "mixed",
    jobs: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=64))] = 1,
    minutes: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None,
    replay: int | None = None,
    transcript: Path | None = None,
) -> int:
    """Play whole clusters in one process, a seed a history, and check what must hold after every step.

    Ends with status 1 at the first seed that breaks a promise, and prints how to replay it.

    Parameters
    ----------
    seeds: first and last seed, as A..B
    nodes: 3, 5, or mixed: every fourth seed five nodes, the others three
    jobs: processes that play seeds side by side; what is found does not depend on it
    minutes: stop after so long even if seeds are left
    replay: play this one seed again and print its transcript, one line an event
    transcript: write the transcript of `replay`, or of the first violating seed, into this file
    """
    if replay is not None:
        logging.disable(logging.CRITICAL)
        return _replay(replay, nodes, transcript)
    try:
        chosen = parse_seeds(seeds)
    except ValueError as error:
        print(f"--seeds {seeds}: {error}", file=sys.stderr)
        return 2
    logging.disable(logging.CRITICAL)  # What nodes report of thousands of faults.
    report = partial(print, flush=True)
    summary = run(chosen, nodes, jobs=jobs, minutes=minutes, progress=report)
    print(summary.line())
    violating = summary.violating
    if violating is None:
        print("no promise was broken")
        return 0
    print(f"seed {violating.seed} ({violating.nodes} nodes) BROKE A PROMISE: {violating.violation}")
    print(f"replay it: python -m chaos simulate --replay {violating.seed} --nodes {violating.nodes}")
    if transcript is not None:
        _replay(violating.seed, nodes, transcript)
    return 1


def _replay(seed: int, nodes: Size, transcript: Path | None) -> int:
    lines: list[str] = []
    sink = print if transcript is None else lines.append
    history = play(seed, nodes_of(seed, nodes), sink)
    if transcript is not None:
        transcript.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{len(lines)} lines in {transcript}")
    print(f"seed {seed}, {history.nodes} nodes: {history.violation or 'no promise was broken'}")
    return 0 if history.violation is None else 1


if __name__ == "__main__":
    sys.exit(app())
