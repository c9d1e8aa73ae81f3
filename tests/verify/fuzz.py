"""Coverage-guided fuzzing of everything that reads untrusted text, with atheris (libFuzzer).

atheris is no dependency of the project; run this by hand, with the Python that .venv has:

    python3 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris
    PYTHONPATH=.:sdk:$(echo .venv/lib/python3.*/site-packages) \\
        /tmp/fuzz/bin/python -m tests.verify.fuzz receipt /tmp/corpus -max_total_time=600

Targets: note, policy, tlog_proof, receipt, add_checkpoint, export. The corpus directory is filled with honest
examples first.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """`arguments`: target, corpus directory, then libFuzzer's own options."""
    name, directory, *options = arguments
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["stele.verify"]):
        targets = importlib.import_module("tests.verify.fuzz_targets")
    atheris.Setup(["fuzz", directory, *options], targets.prepare(name, Path(directory)))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
