"""Clusters that a process cannot work with: each is refused with the setting to change, and exit code 3."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from app.ports.errors import PermanentError
from tests.cli.program import call
from tests.conftest import require_or_skip
from tests.temporal_front import Authority, authority, guarded_front
from tests.temporal_server import TemporalServer

pytestmark = pytest.mark.temporal

try:
    from app.engines.temporal.client import TemporalClient, TemporalConfig
    from app.engines.temporal.outbox import NotPlaced
    from app.engines.temporal.tls import TlsFiles
except ModuleNotFoundError:
    require_or_skip("the extra 'temporal' is not installed", "pip install temporalio")

KEY = "the-right-key"
CANARY = "canary-7f3a"
"""A key that no message repeats."""


class Files:
    """What a test's clients have: the cluster's authority, another one, and what both signed."""

    def __init__(self, folder: Path) -> None:
        self.ours, self.other = authority(folder / "ours"), authority(folder / "other")
        self.server = self.ours.issue("server")
        self.expired_server = self.ours.issue("expired-server", days=-1)
        self.client = self.ours.issue("client")
        self.junk = folder / "junk.pem"
        self.junk.write_text("no certificate")

    def trusting(
        self, ca: Authority | None = None, pair: tuple[Path, Path] | None = None, name: str | None = None
    ) -> TlsFiles:
        """Files of a client; without more it trusts the cluster and has no certificate of its own."""
        certificate, key = pair or (None, None)
        return TlsFiles(ca=(ca or self.ours).file, certificate=certificate, key=key, server_name=name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


async def refusal(
    address: str, tls: TlsFiles | None, *, api_key: str | None = None, lazy: bool = True
) -> str:
    """Why the cluster cannot be worked with; empty where it can."""
    config = TemporalConfig(
        address=address, namespace="default", heartbeat_seconds=2, tls=tls, api_key=api_key
    )
    try:
        await TemporalClient(config, lazy=lazy).check()
    except PermanentError as error:
        return str(error)
    return ""


REFUSED: Mapping[str, tuple[Callable[[Files], TlsFiles | None], str]] = {
    "an authority that is not ours": (lambda it: it.trusting(it.other), "set temporal.tls_ca to the file"),
    "public authorities only": (lambda _: TlsFiles(), "set temporal.tls_ca to the file"),
    "no TLS": (lambda _: None, "speaks TLS only: set temporal.tls"),
    "another name": (lambda it: it.trusting(name="temporal.example"), "set temporal.tls_server_name"),
    "a file that is no authority": (
        lambda it: TlsFiles(ca=it.junk),
        "temporal.tls_ca 'junk.pem' holds no certificate",
    ),
    "a file that is no certificate": (
        lambda it: it.trusting(pair=(it.junk, it.client[1])),
        "temporal.tls_certificate 'junk.pem' and temporal.tls_key 'client.key' are no certificate and open",
    ),
    "a key of another certificate": (
        lambda it: it.trusting(pair=(it.client[0], it.server[1])),
        "temporal.tls_key 'server.key' does not belong to the certificate of temporal.tls_certificate "
        "'client.pem'",
    ),
}


@pytest.mark.parametrize("lazy", [True, False], ids=["serve", "worker"])
@pytest.mark.parametrize("case", REFUSED)
async def test_tls_that_cannot_work_is_refused_with_the_setting(
    case: str, lazy: bool, temporal: TemporalServer, files: Files
) -> None:
    made, said = REFUSED[case]
    async with guarded_front(temporal.address, files.server) as address:
        assert said in await refusal(address, made(files), lazy=lazy)
        assert await refusal(address, files.trusting(), lazy=lazy) == ""


@pytest.mark.parametrize("lazy", [True, False], ids=["serve", "worker"])
async def test_a_certificate_of_the_cluster_that_has_expired_is_refused(
    lazy: bool, temporal: TemporalServer, files: Files
) -> None:
    async with guarded_front(temporal.address, files.expired_server) as address:
        told = await refusal(address, files.trusting(), lazy=lazy)
    assert f"the certificate of Temporal at '{address}' has expired" in told
    assert "temporal.address" in told


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (lambda _: None, "demands a client certificate: set temporal.tls_certificate and temporal.tls_key"),
        (lambda it: it.ours.issue("expired", days=-1), "refuses the certificate of temporal.tls_certificate"),
        (lambda it: it.other.issue("foreign"), "refuses the certificate of temporal.tls_certificate"),
        (lambda it: it.client, ""),
    ],
    ids=["missing", "expired", "of another authority", "right"],
)
async def test_where_client_certificates_are_demanded_only_a_right_one_will_do(
    pair: Callable[[Files], tuple[Path, Path] | None], said: str, temporal: TemporalServer, files: Files
) -> None:
    async with guarded_front(temporal.address, files.server, clients=files.ours) as address:
        for lazy in (True, False):
            told = await refusal(address, files.trusting(pair=pair(files)), lazy=lazy)
            assert said in told
            assert bool(said) == bool(told)


@pytest.mark.parametrize("lazy", [True, False], ids=["serve", "worker"])
async def test_a_wrong_api_key_is_refused_and_not_repeated(
    lazy: bool, temporal: TemporalServer, files: Files
) -> None:
    async with guarded_front(temporal.address, files.server, api_key=KEY) as address:
        for wrong in (None, CANARY):
            told = await refusal(address, files.trusting(), api_key=wrong, lazy=lazy)
            assert "lets nobody in with these credentials: check temporal.api_key" in told
            assert CANARY not in told
        assert await refusal(address, files.trusting(), api_key=KEY, lazy=lazy) == ""


async def test_a_server_without_tls_is_refused_where_tls_is_set(
    temporal: TemporalServer, files: Files
) -> None:
    told = await refusal(temporal.address, files.trusting())
    assert "does not speak TLS: unset temporal.tls" in told


@pytest.mark.parametrize("tls", [False, True])
async def test_a_cluster_that_is_away_is_not_refused_it_may_come_back(tls: bool, files: Files) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"localhost:{deaf.getsockname()[1]}"
    with pytest.raises(NotPlaced, match=address):
        await refusal(address, files.trusting() if tls else None)


# --- the command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "setting", "code", "said"),
    [
        ("serve", "ADDRESS=temporal", 2, "temporal.address: must look like host:port, without a scheme"),
        ("worker", "ADDRESS=http://temporal:7233", 2, "temporal.address: must look like host:port"),
        ("worker", "ADDRESS=temporal:99999", 2, "temporal.address: must look like host:port"),
        ("worker", "METRICS_ADDRESS=9090", 2, "temporal.metrics_address: must look like host:port"),
        ("worker", "METRICS_ADDRESS=192.0.2.1:1", 3, "temporal.metrics_address '192.0.2.1:1' cannot be used"),
        ("serve", "TLS_KEY=client.key", 2, "temporal.tls_certificate and temporal.tls_key are set together"),
        ("serve", "TLS_CA=missing.pem", 3, "temporal.tls_ca 'missing.pem' cannot be read"),
        ("serve", "NAMESPACE=nowhere", 3, "create it, or set temporal.namespace to one that exists"),
        ("worker", "NAMESPACE=nowhere", 3, "create it, or set temporal.namespace to one that exists"),
        ("worker", "TLS=true", 3, "does not speak TLS: unset temporal.tls"),
    ],
)
def test_the_command_line_ends_with_one_line_and_its_code(  # noqa: PLR0917  a table
    command: str, setting: str, code: int, said: str, temporal: TemporalServer, tmp_path: Path
) -> None:
    name, _, value = setting.partition("=")
    settings = {"ADDRESS": temporal.address, name: value}
    named = {f"ORCHESTRATOR_TEMPORAL__{name}": value for name, value in settings.items()}
    options = ("--port", "0") if command == "serve" else ()
    ended = call(
        *(command, *options, "--data-dir", tmp_path / "data"),
        cwd=tmp_path,
        ORCHESTRATOR_ENGINE="temporal",
        ORCHESTRATOR_LOG__LEVEL="error",
        **named,
    )
    assert ended.code == code, ended.err
    (line,) = ended.error_lines
    assert said in line


async def test_both_commands_end_with_3_where_the_cluster_does_not_let_them_in(
    temporal: TemporalServer, files: Files, tmp_path: Path
) -> None:
    async with guarded_front(temporal.address, files.server, clients=files.ours) as address:
        for command in (("serve", "--port", "0"), ("worker",)):
            ended = await asyncio.to_thread(
                call,
                *(*command, "--data-dir", tmp_path / "data"),
                cwd=tmp_path,
                ORCHESTRATOR_ENGINE="temporal",
                ORCHESTRATOR_LOG__LEVEL="error",
                ORCHESTRATOR_TEMPORAL__ADDRESS=address,
                ORCHESTRATOR_TEMPORAL__TLS_CA=str(files.ours.file),
            )
            assert ended.code == 3, ended.err
            assert "demands a client certificate: set temporal.tls_certificate" in ended.err
            assert "Traceback" not in ended.err
