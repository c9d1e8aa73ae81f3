"""Every command against a real node: output, exit code, and one clear line when something is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Finished, Stele
from tests.cluster.cluster import Cluster


def refused(finished: Finished, code: int, message: str) -> None:
    """It ended with the code and said why in lines of its own, without a traceback."""
    assert finished.code == code, finished.err
    assert message in finished.err
    assert finished.out == ""
    assert all(line.startswith("stele: ") for line in finished.err.splitlines())


def test_ledgers(stele: Stele, single: Cluster) -> None:
    assert stele("ledger", "create", "registry", "-o", "json").json["size"] == 1
    shown = stele("ledger", "show", "registry")
    assert re.search(r"^verifier_key +demo/registry\+", shown.out, re.MULTILINE)
    listed = stele("ledger", "list", "-o", "csv")
    assert "registry" in {row["name"] for row in csv.DictReader(io.StringIO(listed.out))}
    refused(stele("ledger", "delete", "registry"), 4, "protected")
    assert stele("ledger", "create", "registry", "--no-deletion-protection").code == 0
    assert stele("ledger", "delete", "registry").code == 0
    refused(stele("ledger", "show", "registry"), 3, "there is no ledger 'registry'")


def test_tables(stele: Stele, ledger: str) -> None:
    assert stele("table", "create", ledger, "cars", "-o", "json").json["state"] == "active"
    assert stele("table", "drop", ledger, "cars", "-o", "json").json["state"] == "dropped"
    assert stele("table", "show", ledger, "cars", "-o", "json").json["state"] == "dropped"
    lines = stele("table", "list", ledger).out.splitlines()
    assert [line.split()[:2] for line in lines] == [["name", "state"], ["cars", "dropped"], ["t", "active"]]


def test_documents(stele: Stele, ledger: str, tmp_path: Path) -> None:
    written = stele("document", "put", ledger, "t", "k", '{"n":1}', "--if-absent", "-o", "json").json
    assert (written["key"], written["version"]) == ("k", 0)
    again = stele("document", "put", ledger, "t", "k", "{}", "--if-absent")
    refused(again, 4, "current version 0")
    assert re.search(r"request [^ )]+", again.err)
    (tmp_path / "d.json.gz").write_bytes(gzip.compress(b'{"n":2}'))
    assert stele("document", "put", ledger, "t", "k", f"@{tmp_path}/d.json.gz", "--if-version", "0").code == 0

    assert stele("document", "get", ledger, "t", "k", "-o", "json").json["data"] == {"n": 2}
    assert '{"n":2}' in stele("document", "get", ledger, "t", "k").out
    for flags in (["--version", "0"], ["--as-of-seq", written["seq"]], ["--as-of", written["at"]]):
        assert stele("document", "get", ledger, "t", "k", *flags, "-o", "json").json["data"] == {"n": 1}
    assert stele("document", "get", ledger, "t", "k", "--snapshot").code == 0

    assert stele("document", "delete", ledger, "t", "k").code == 0
    refused(stele("document", "get", ledger, "t", "k"), 3, "deleted")
    history = stele("document", "history", ledger, "t", "k", "-o", "json").json
    assert [(line["version"], line["op"]) for line in history] == [(2, "delete"), (1, "put"), (0, "put")]
    assert len(stele("document", "history", ledger, "t", "k", "--limit", "1").out.splitlines()) == 2
    assert stele("document", "list", ledger, "t", "-o", "json").json == []
    assert len(stele("document", "add", ledger, "t", "{}", "-o", "json").json["key"]) == 32


def test_what_a_document_may_not_be(stele: Stele, ledger: str, tmp_path: Path) -> None:
    for text in ["", "[]", '{"a":1,"a":2}', '{"a":NaN}', '{"a":9007199254740993}']:
        refused(stele("document", "put", ledger, "t", "k", text), 1, "request ")
    refused(stele("document", "put", ledger, "t", "..", "{}"), 1, "key")
    refused(stele("document", "put", ledger, "t", "k", f"@{tmp_path}/none"), 1, "No such file")
    refused(stele("document", "put", ledger, "nothing", "k", "{}"), 3, "nothing")


def test_lists_show_other_peoples_data_harmlessly(stele: Stele, ledger: str) -> None:
    stele("document", "put", ledger, "t", "[red]k", r'{"text":"\u001b[31m \u202e [bold]"}')
    shown = stele("document", "list", ledger, "t", "--prefix", "[").out
    assert "[red]k" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_transactions(stele: Stele, ledger: str, tmp_path: Path) -> None:
    file = tmp_path / "tx.json"
    operations = [{"op": "put", "table": "t", "key": key, "data": {}} for key in "ab"]
    absent = {"table": "t", "key": "a", "version": None}
    file.write_text(json.dumps({"operations": operations, "conditions": [absent]}))
    committed = stele("transact", ledger, file, "-o", "json").json
    assert [made["key"] for made in committed["revisions"]] == ["a", "b"]
    refused(stele("transact", ledger, file), 4, "must not exist")
    shown = stele("transaction", "show", ledger, committed["tx"], "-o", "json").json
    assert (shown["status"], shown["seq"]) == ("committed", committed["seq"])


def test_bulk(stele: Stele, ledger: str, tmp_path: Path) -> None:
    file = tmp_path / "x.csv.gz"
    rows = "".join(f"{number},{number}.5,NA\n" for number in range(3000))
    file.write_bytes(gzip.compress(("id,price,note\n" + rows).encode()))
    command = ["bulk", ledger, "t", file, "--key", "id", "--null", "NA", "--idempotency-key", "x"]
    loaded = stele(*command, "-o", "json")
    assert loaded.code == 0
    assert loaded.err == ""  # no bar where there is no terminal
    assert (loaded.json["accepted"], loaded.json["duplicates"]) == (3000, 0)
    assert stele(*command, "-o", "json").json["duplicates"] == 3000
    got = stele("document", "get", ledger, "t", "17", "-o", "json").json
    assert (got["data"], got["version"]) == ({"id": 17, "price": 17.5}, 0)
    assert len(stele("document", "list", ledger, "t", "-o", "json").json) == 3000


def test_bulk_reports_what_was_refused(stele: Stele, ledger: str, tmp_path: Path) -> None:
    file = tmp_path / "x.ndjson"
    file.write_text('{"key":"a","data":{}}\n{"key":"b/c","data":{}}\n{"data":[]}\n')
    loaded = stele("bulk", ledger, "t", file, "-o", "json")
    assert (loaded.code, loaded.json["accepted"], loaded.json["refused"]) == (4, 1, 2)
    assert [refusal["line"] for refusal in loaded.json["refusals"]] == [2, 3]
    assert "record 2 was refused" in loaded.err
    file.write_text('{"id":"a"}\n{"no":"b"}\n')
    refused(stele("bulk", ledger, "t", file, "--key", "id"), 1, "record 2")
    file.write_text('{"id":"a"}\n')
    refused(stele("bulk", "nothing", "t", file, "--key", "id"), 3, "nothing")


def test_blocks_checkpoints_and_proofs(stele: Stele, ledger: str, single: Cluster) -> None:
    stele("document", "put", ledger, "t", "k", "{}")
    assert stele("block", "show", ledger, "0", "-o", "json").json["header"]["name"] == ledger
    listed = stele("block", "list", ledger, "--from", "1", "-o", "csv").out
    assert [row["seq"] for row in csv.DictReader(io.StringIO(listed))] == ["1", "2"]
    refused(stele("block", "show", ledger, "99"), 3, "99")
    assert stele("checkpoint", "show", ledger).out.startswith(f"demo/{ledger}\n4\n")
    shown = stele("checkpoint", "show", ledger, "-o", "json", "--verifier-key", single.verifier_key).json
    assert (shown["size"], shown["verified"]) == (4, True)
    assert stele("proof", "inclusion", ledger, "1", "-o", "json").json["size"] == 4
    assert stele("proof", "consistency", ledger, "1", "2", "-o", "json").json["to"] == 2
    first = stele("proof", "consistency", ledger, "4", "--root", shown["root"])
    assert first.code == 0
    wrong = stele("proof", "consistency", ledger, "4", "--root", "00" * 32)
    refused(wrong, 6, "VERIFICATION FAILED")


def test_export_and_verify(stele: Stele, ledger: str, single: Cluster, tmp_path: Path) -> None:
    stele("document", "put", ledger, "t", "k", '{"n":1}')
    key = stele("ledger", "show", ledger, "-o", "json").json["verifier_key"]
    online = stele("verify", ledger, "--key", key, "-o", "json")
    assert (online.code, online.err) == (0, "")
    assert (online.json["result"], online.json["blocks"]) == ("verified", 4)

    plain, packed = tmp_path / "x.ndjson", tmp_path / "x.ndjson.gz"
    assert stele("export", ledger, "-o", plain).code == 0
    assert stele("export", ledger, "-o", packed).code == 0
    assert sorted(path.name for path in tmp_path.glob("x*")) == ["x.ndjson", "x.ndjson.gz"]
    # The first line's checkpoint may have got another cosignature since.
    assert gzip.decompress(packed.read_bytes()).splitlines()[1:] == plain.read_bytes().splitlines()[1:]
    assert stele("export", ledger).out.splitlines()[1:] == plain.read_text().splitlines()[1:]
    assert stele("export", ledger, "--from", "1", "--to", "2").out.count("\n") == 2
    for file in (plain, packed):
        assert stele("verify", "--file", file, "--key", key, "-o", "json").json["root"] == online.json["root"]
    without = stele("verify", "--file", plain, "-o", "json")
    assert (without.code, without.json["signed_by"]) == (0, None)
    assert "inner consistency" in without.err

    plain.write_text(plain.read_text().replace('{"n":1}', '{"n":2}'))
    for arguments in (["--key", key], []):
        broken = stele("verify", "--file", plain, *arguments)
        assert broken.code == 6
        assert "VERIFICATION FAILED" in broken.err


def test_trust_on_first_use(stele: Stele, ledger: str, alone: Stele) -> None:
    stele("document", "put", ledger, "t", "k", '{"n":1}')
    first = stele("document", "get", ledger, "t", "k", "--proof", "-o", "json")
    assert first.json["proof"]["checkpoint"].startswith(f"demo/{ledger}\n4\n")
    assert "trusting, from now on" in first.err
    assert stele("verify", ledger).err == ""
    assert stele("checkpoint", "forget", ledger).code == 0
    refused(stele("checkpoint", "forget", ledger), 3, "nothing is remembered")


def test_a_ledger_made_anew_under_the_name_of_a_deleted_one_fails_verification(
    stele: Stele, ledger: str
) -> None:
    """It is another log, of another origin, which nobody who trusted the first takes for it."""
    for number in range(3):
        stele("document", "put", ledger, "t", f"k{number}", "{}")
    key = stele("ledger", "show", ledger, "-o", "json").json["verifier_key"]
    assert stele("verify", ledger, "--key", key).code == 0
    stele("ledger", "create", ledger, "--no-deletion-protection")
    stele("ledger", "delete", ledger)
    stele("ledger", "create", ledger)
    stele("table", "create", ledger, "t")
    stele("document", "put", ledger, "t", "k0", "{}")
    failed = stele("verify", ledger, "--key", key)
    assert failed.code == 6
    assert f"demo/{ledger}." in failed.err
    failed = stele("document", "get", ledger, "t", "k0", "--verifier-key", key)
    assert failed.code == 6


def test_cluster_status(stele: Stele) -> None:
    assert stele("cluster", "status", "-o", "json").json["leader"] == "n0"
    assert stele("cluster", "transfer", "n0", "-o", "json").json == {"leader": "n0"}
    refused(stele("cluster", "transfer"), 5, "no other voter")
    assert re.search(r"^n0 +zone-a +leader", stele("cluster", "status", "--members-only").out, re.MULTILINE)


def test_usage_errors(alone: Stele) -> None:
    refused(alone("nonsense"), 2, "nonsense")
    refused(alone("document", "get", "l"), 2, "TABLE")
    refused(alone("ledger", "list", "-o", "xml"), 2, "xml")
    refused(alone("bulk", "l", "t", "--nonsense"), 2, "nonsense")
    refused(alone("bulk", "l", "t", "f", "--key", "a", "--key-template", "{b}"), 1, "No such file")
    refused(alone("verify"), 2, "--file")
    assert alone("--version").out.strip() == "0.1.0"
    assert "Exit codes" in alone("--help").out


def test_no_cluster(alone: Stele, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STELE_TIMEOUT_S", "0.2")
    refused(alone("ledger", "list"), 5, "127.0.0.1:9")
    refused(alone("ledger", "list", "--endpoints", "ftp://x"), 1, "endpoint")
    refused(alone("checkpoint", "show", "l", "--verifier-key", "x"), 6, "verifier key")
