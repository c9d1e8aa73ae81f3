"""Settings: where they come from, and which are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import node.main
from node.config import Config, ConfigInvalid, Peer

PEERS = tuple(
    Peer(
        id=f"n{n}",
        zone="z",
        raft_host="127.0.0.1",
        raft_port=8500 + n,
        http_url=f"http://127.0.0.1:{8400 + n}",
    )
    for n in range(3)
)


EVERYWHERE = "0.0.0.0"  # noqa: S104 - what must be refused


TLS = {
    "raft_ca_file": Path("ca.pem"),
    "raft_certificate_file": Path("n0.pem"),
    "raft_key_file": Path("n0-key.pem"),
}


def config(**settings: object) -> Config:
    required = {"node_id": "n0", "data_dir": Path("d"), "log_key_file": Path("k"), **TLS}
    return Config(**{**required, **settings})  # type: ignore[arg-type]


def test_alone_a_node_is_its_own_cluster() -> None:
    (peer,) = config(http_port=1234).peers
    assert (peer.id, peer.http_url, peer.raft_port) == ("n0", "http://127.0.0.1:1234", 7500)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"node_id": ""}, "node_id"),
        ({"node_id": "a/b"}, "node_id"),
        ({"cluster": "a b"}, "cluster"),
        ({"zone": "+"}, "zone"),
        ({"http_port": 0}, "http_port"),
        ({"raft_port": 65536}, "raft_port"),
        ({"commit_timeout_s": 0.0}, "commit_timeout_s"),
        ({"commit_timeout_s": float("nan")}, "commit_timeout_s"),
        ({"pending_commands_max": 0}, "pending_commands_max"),
        ({"entries_in_flight_max": 65}, "entries_in_flight_max"),
        ({"node_id": "n9", "peers": PEERS}, "peers"),
        ({"peers": (PEERS[0], PEERS[0])}, "peers"),
        ({"peers": PEERS * 4}, "peers"),
        ({"peers": (dataclasses.replace(PEERS[0], http_url="ftp://x"),)}, "peers"),
        ({"peers": (dataclasses.replace(PEERS[0], http_url="http://x/path"),)}, "peers"),
        ({"peers": (dataclasses.replace(PEERS[0], http_url="http://x:65536"),)}, "peers"),
        ({"peers": (dataclasses.replace(PEERS[0], http_url="http://u@x"),)}, "peers"),
        ({"peers": (dataclasses.replace(PEERS[0], http_url="http://x\n"),)}, "peers"),
        ({"peers": (dataclasses.replace(PEERS[0], raft_port=0),)}, "peers"),
        ({"http_host": EVERYWHERE}, "http_host"),
        ({"http_host": "example.org"}, "http_host"),
        (dict.fromkeys(TLS), "raft_ca_file"),
        ({"raft_ca_file": None}, "raft_ca_file"),
        ({"raft_certificate_file": None}, "raft_certificate_file"),
        ({"raft_key_file": None}, "raft_key_file"),
        ({"raft_key_file": None, "insecure": True}, "raft_key_file"),
        ({**dict.fromkeys(TLS), "insecure": True, "raft_host": "::"}, "raft_host"),
        (
            {
                **dict.fromkeys(TLS),
                "insecure": True,
                "peers": (PEERS[0], dataclasses.replace(PEERS[1], raft_host="10.0.0.1")),
            },
            "peers",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_named(settings: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigInvalid, match=f"^{field}: "):
        config(**settings)


def test_a_node_that_joins_needs_somebody_to_join() -> None:
    others = PEERS[1:]
    assert config(peers=others, join=True).other_peers == others
    assert config(peers=PEERS, join=True).other_peers == others
    for peers in ((), PEERS[:1]):
        with pytest.raises(ConfigInvalid, match=r"^join: needs peers"):
            config(peers=peers, join=True)
    with pytest.raises(ConfigInvalid, match=r"^peers: this node, 'n0', .* join = true"):
        config(peers=others)


def test_replication_goes_beyond_loopback_with_tls_and_in_plain_only_when_told() -> None:
    assert config(raft_host="::").replicates_in_plain is False
    assert config(**dict.fromkeys(TLS), insecure=True).replicates_in_plain


def test_beyond_loopback_only_when_told() -> None:
    assert config(http_host=EVERYWHERE, raft_host="::", insecure=True).insecure
    for host in ("127.0.0.1", "127.3.2.1", "::1", "localhost"):
        assert config(http_host=host).http_host == host


@pytest.mark.parametrize("peer", [*PEERS, dataclasses.replace(PEERS[0], raft_host="::1")])
def test_a_peer_is_written_as_it_is_read(peer: Peer) -> None:
    assert Peer.parse(str(peer)) == peer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n0",
        "n0,z,host,http://x",
        "n0,z,host:port,http://x",
        "n0,z,:1,http://x",
        "n0,z,::1:1,http://x",
        "n0,z,a b:1,http://x",
        "n0,z," + "a" * 256 + ":1,http://x",
        "a,b,c:1,d,e",
    ],
)
def test_a_malformed_peer_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"^peers: "):
        Peer.parse(text)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """What `steled serve` would have served."""
    seen: list[Config] = []

    async def run(config: Config) -> None:
        seen.append(config)

    monkeypatch.setattr(node.main, "run", run)
    return seen


def steled(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        node.main.main(arguments)
    assert isinstance(exited.value.code, int)
    return exited.value.code


def test_flag_beats_environment_beats_file_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[Config]
) -> None:
    file = tmp_path / "steled.toml"
    peers = ", ".join(f'"{peer}"' for peer in PEERS)
    file.write_text(
        'node_id = "n1"\ndata_dir = "d"\nlog_key_file = "k"\nzone = "file"\nhttp_port = 1\nraft_port = 1\n'
        f'raft_ca_file = "ca"\nraft_certificate_file = "c"\nraft_key_file = "r"\npeers = [{peers}]\n'
    )
    monkeypatch.setenv("STELED_HTTP_PORT", "2")
    monkeypatch.setenv("STELED_RAFT_PORT", "2")
    assert steled("serve", "--config", str(file), "--raft-port", "3") == 0
    (config,) = served
    assert (config.zone, config.http_port, config.raft_port, config.cluster) == ("file", 2, 3, "stele")
    assert config.peers == PEERS


def test_a_node_that_joins_is_told_so_in_its_file(tmp_path: Path, served: list[Config]) -> None:
    file = tmp_path / "steled.toml"
    file.write_text(
        f'node_id = "n3"\ndata_dir = "d"\nlog_key_file = "k"\njoin = true\npeers = ["{PEERS[0]}"]\n'
        'raft_ca_file = "ca"\nraft_certificate_file = "c"\nraft_key_file = "r"\n'
    )
    assert steled("serve", "--config", str(file)) == 0
    assert (served[0].join, served[0].other_peers) == (True, PEERS[:1])


def test_the_settings_file_that_is_shipped_works(served: list[Config]) -> None:
    shipped = Path(__file__).parents[2] / "deploy" / "steled.toml"
    assert steled("serve", "--config", str(shipped)) == 0
    assert [peer.id for peer in served[0].peers] == ["n0", "n1", "n2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--config", "/nowhere.toml"], "config: there is no file"),
        (["serve"], "node"),
        (
            ["serve", "--node-id", "n0", "--data-dir", "d", "--log-key-file", "k", "--http-port", "x"],
            "http-port",
        ),
        (
            ["serve", "--node-id", "n0", "--data-dir", "d", "--log-key-file", "k", "--http-port", "0"],
            "http_port",
        ),
        (
            ["serve", "--node-id=n0", "--data-dir=d", "--log-key-file=k", "--insecure", "--colour", "red"],
            "colour",
        ),
        (["serve", "--node-id", "n0", "--data-dir", "d", "--log-key-file", "k"], "raft_ca_file"),
        (["certificates", "create", "--cluster", "a b", "--out", "o", "--nodes", "n0"], "cluster"),
        (["certificates", "create", "--cluster", "a", "--out", "o", "--nodes", "n0,,n1"], "nodes"),
        (["certificates", "create", "--cluster", "a", "--out", "o", "--nodes", "a", "--days", "0"], "days"),
        (["reign"], "reign"),
        (["demo", "--nodes", "0"], "nodes"),
        (["demo", "--port", "65535"], "port"),
    ],
)
def test_wrong_use_exits_2_and_says_why(
    arguments: list[str], said: str, served: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    assert steled(*arguments) == 2
    assert said in capsys.readouterr().err
    assert served == []


def test_an_unknown_setting_in_the_file_is_refused(
    tmp_path: Path, served: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "steled.toml"
    file.write_text('node_id = "n1"\ndata_dir = "d"\nlog_key_file = "k"\ncolour = "red"\n')
    assert steled("serve", "--config", str(file)) == 2
    assert "colour" in capsys.readouterr().err


def test_a_log_key_that_is_none_fails_without_showing_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    key.write_text("SECRET")
    options = ["--node-id", "n0", "--data-dir", str(tmp_path / "d"), "--log-key-file", str(key), "--insecure"]
    code = steled("serve", *options)
    said = capsys.readouterr().err
    assert (code, "log_key_file" in said, "SECRET" in said) == (1, True, False)
