"""schemathesis reads /openapi.json from a running cluster and tries what the schema allows and forbids."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster

# A node may answer 503 (no leader, a `min_seq` that it has not got yet). And not every document the schema
# allows is one: JSON Schema cannot say "no number beyond 2^53 at any depth", "this table exists" or "the
# idempotency key is new"; refusals of those are tested by hand in tests/node. Bulk load is NDJSON, which
# schemathesis cannot make.
SETTINGS = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503"]
[checks.positive_data_acceptance]
enabled = false
[[operations]]
include-operation-id = "bulkLoad"
enabled = false
"""


@pytest.mark.timeout(420)
def test_the_api_is_what_its_schema_says(cluster: Cluster, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(SETTINGS)
    tool = Path(sys.executable).with_name("schemathesis")
    command = [str(tool), "--config-file", str(config), "run", f"{cluster.nodes()[0].http}/openapi.json"]
    command += ["--phases", "coverage,fuzzing", "--max-examples", "5", "--workers", "1", "--no-color"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=400, check=False, cwd=tmp_path, env=os.environ
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Operations" in done.stdout
