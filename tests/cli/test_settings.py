"""What settings become in the parts they are for, and what `settings` shows of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.bootstrap import build
from app.configuration import instance_config, redactor
from app.providers.openai.adapter import OpenAIConfig
from app.settings import Settings
from app.settings_faults import fault, unknown_variables
from tests.cli.program import Ended, call
from tests.dsl.test_words import STOCK

KEY = "gateway-canary-5a1f"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings as an operator's environment gives them."""
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__VLLM__BASE_URL", "http://127.0.0.1:8001/v1")
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__VLLM__HEADERS", f'{{"X-Gateway-Key": "{KEY}"}}')
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__VLLM__EMBEDDING_FORMAT", "float")
    monkeypatch.setenv("ORCHESTRATOR_VECTORS__CACHE_MIB", "3")
    return Settings()


def test_headers_of_an_instance_are_secrets(settings: Settings) -> None:
    assert KEY not in repr(settings)
    assert KEY not in redactor(settings).text(f"the server said {KEY}")


def test_headers_and_embedding_format_reach_the_adapter(settings: Settings) -> None:
    config = instance_config("vllm", settings.providers["vllm"])
    assert isinstance(config, OpenAIConfig)
    assert config.embedding_format == "float"
    ((name, value),) = config.headers.items()
    assert name == "X-Gateway-Key"
    assert not isinstance(value, str)
    assert value.get_secret_value() == KEY


def test_the_bound_of_the_vector_cache_reaches_the_store(settings: Settings) -> None:
    assert build(settings).vectors._cache_bytes == 3 * 2**20


# --- `settings` ---------------------------------------------------------------------------------------


def listed(ended: Ended) -> dict[str, list[str]]:
    """What stands behind each variable."""
    return {line.split()[0]: line.split()[1:] for line in ended.out.splitlines()}


@pytest.mark.parametrize("mark", ["!", "*", "&"])
def test_a_secret_that_yaml_takes_for_something_else_is_not_repeated(mark: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(f"providers: {{eu: {{api_key: {mark}{KEY}}}}}")
    ended = call("settings", cwd=tmp_path, ORCHESTRATOR_CONFIG="settings.yaml")
    assert ended.code == 2
    assert KEY not in ended.out + ended.err


def test_no_secret_is_listed(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(f"providers: {{eu: {{api_key: {KEY}, base_url: 'http://h/v1'}}}}")
    ended = call(
        "settings",
        cwd=tmp_path,
        ORCHESTRATOR_CONFIG="settings.yaml",
        ORCHESTRATOR_PROVIDERS__VLLM__HEADERS=f'{{"X-Gateway-Key": "{KEY}"}}',
        ORCHESTRATOR_ACTIONS__WEBHOOK_URL=f"https://hooks.example/x?token={KEY}",
        OPENAI_API_KEY=KEY,
    )
    assert ended.code == 0
    assert KEY not in ended.out + ended.err
    rows = listed(ended)
    assert rows["ORCHESTRATOR_PROVIDERS"][:2] == ["eu,vllm", "environment"]
    assert rows["ORCHESTRATOR_DATABASES"][:2] == ["-", "default"]
    assert rows["ORCHESTRATOR_PROVIDERS__EU__API_KEY"][:2] == ["********", "file"]
    assert rows["ORCHESTRATOR_PROVIDERS__VLLM__HEADERS"][:2] == [
        '{"X-Gateway-Key":"********"}',
        "environment",
    ]
    assert rows["ORCHESTRATOR_ACTIONS__WEBHOOK_URL"][0] == "https://hooks.example/x?********"
    assert rows["OPENAI_API_KEY"][:2] == ["********", "environment"]


def test_settings_that_cannot_be_used_are_told_and_the_defaults_listed(tmp_path: Path) -> None:
    ended = call("settings", cwd=tmp_path, ORCHESTRATOR_SERVER__PORT="99999")
    assert ended.code == 2
    (line,) = ended.error_lines
    assert "settings: server.port should be less than or equal to 65535" in line
    assert line.endswith("; the defaults are listed")
    assert listed(ended)["ORCHESTRATOR_SERVER__PORT"][0] == "8000"


def test_settings_shows_what_holds_and_who_says_so(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("server: {port: 9001, allow_open: true}\nruns: {max_active: 7}\n")
    ended = call(
        "settings",
        cwd=tmp_path,
        ORCHESTRATOR_CONFIG="settings.yaml",
        ORCHESTRATOR_SERVER__PORT="9002",
        ORCHESTRATOR_SERVER__ALLOWED_HOSTS="a.example,b.example",
        orchestrator_log='{"level": "debug"}',
    )
    assert (ended.code, ended.err) == (0, "")
    rows = listed(ended)
    assert rows["ORCHESTRATOR_CONFIG"][:2] == ["settings.yaml", "environment"]
    assert rows["ORCHESTRATOR_SERVER__PORT"][:2] == ["9002", "environment"]
    assert rows["ORCHESTRATOR_SERVER__PORT"][-2:] == ["(default:", "8000)"]
    assert rows["ORCHESTRATOR_SERVER__ALLOWED_HOSTS"][:2] == ["a.example,b.example", "environment"]
    assert rows["ORCHESTRATOR_SERVER__ALLOW_OPEN"][:2] == ["true", "file"]
    assert rows["ORCHESTRATOR_RUNS__MAX_ACTIVE"][:2] == ["7", "file"]
    assert rows["ORCHESTRATOR_LOG__LEVEL"][:2] == ["debug", "environment"]
    assert rows["ORCHESTRATOR_LOG__FORMAT"][:2] == ["json", "default"]
    assert rows["ORCHESTRATOR_SERVER__MAX_MEMORY_MIB"][:2] == ["-", "default"]


def test_variables_that_are_no_settings_are_told_after_the_list(tmp_path: Path) -> None:
    ended = call(
        "settings",
        cwd=tmp_path,
        ORCHESTRATOR_DATADIRECTORY="x",
        ORCHESTRATOR_SERVER_PORT="1",
        ORCHESTRATOR_WHATEVER="1",
    )
    assert ended.code == 2
    assert ended.error_lines == [
        "llm-orchestrator: with these variables no other command starts:",
        "llm-orchestrator: ORCHESTRATOR_DATADIRECTORY is no setting; did you mean ORCHESTRATOR_DATA_DIR?",
        "llm-orchestrator: ORCHESTRATOR_SERVER_PORT is no setting; did you mean ORCHESTRATOR_SERVER__PORT?",
        "llm-orchestrator: ORCHESTRATOR_WHATEVER is no setting; "
        "`llm-orchestrator settings` lists all there are",
    ]
    assert listed(ended)["ORCHESTRATOR_SERVER__PORT"][:2] == ["8000", "default"]


def test_they_come_last_also_where_the_settings_cannot_be_used(tmp_path: Path) -> None:
    ended = call("settings", cwd=tmp_path, ORCHESTRATOR_FOO__BAR="1", ORCHESTRATOR_SERVER__PORT="x")
    assert ended.code == 2
    assert [line for line in ended.error_lines if "ORCHESTRATOR_FOO__BAR is no setting" in line]
    assert "server.port should be a whole number" in ended.error_lines[-1]


WRONG: tuple[Any, ...] = (
    *(None, True, "abc", "", -5, 1.5, float("inf"), 10**15, [], ["a"], {}, {"a": 1}, {"a/b": {"input": "x"}}),
    *({"x": {"vendor": vendor, "nope": 1}} for vendor in ("openai", "qdrant", "nope")),
    {"x": {"vendor": "openai", "base_url": 5}},
)


def test_settings_of_wrong_types_are_refused_in_words() -> None:
    given: list[Any] = [
        {name: wrong if key is None else {key: wrong}}
        for name, field in Settings.model_fields.items()
        for key in (None, *getattr(field.annotation, "model_fields", ()))
        for wrong in WRONG
    ]
    said = []
    for values in given:
        try:
            Settings(**values)
        except ValidationError as error:
            said.append(fault(error))
    assert len(said) > 100
    assert not [one for one in said if STOCK.search(one)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"server": {"port": "x"}}, "server.port should be a whole number"),
        ({"server": {"allowed_hosts": 5}}, "server.allowed_hosts should be a list and is a number"),
        (
            {"databases": {"kb": {"vendor": "qdrant", "url": "http://h"}}},
            "databases.kb.url: there is no such setting; did you mean databases.kb.base_url?",
        ),
        (
            {"providers": {"eu": {"base_url": "x"}}},
            "providers.eu.base_url: must look like https://host/path, without credentials or a query",
        ),
        ({"port": 1}, "port: there is no such setting; did you mean server.port?"),
        (
            {"providers": {"eu": {"vendor": "opneai"}}},
            "providers.eu.vendor: there is no such vendor; did you mean openai?",
        ),
        (
            {"databases": {"kb": {"vendor": "qdrnat"}}},
            "databases.kb.vendor: there is no such vendor; did you mean qdrant?",
        ),
        (
            {"databases": {"kb": {}}},
            "databases.kb: vendor must be qdrant, pinecone, weaviate, chroma or pgvector",
        ),
        ({"providers": {"eu": [1]}}, "providers.eu should be an object and is a list"),
        (
            {"providers": {"eu": {"models": {"m": {"rpm": 1}}}}},
            "providers.eu.models.m.rpm: there is no such setting; "
            "did you mean providers.eu.models.m.requests_per_minute?",
        ),
        (
            {"providers": {"eu": {"models": {"m": {"xyz": 1}}}}},
            "providers.eu.models.m.xyz: there is no such setting; "
            "there are max_concurrency, requests_per_minute, tokens_per_minute",
        ),
        (
            {"prices": {"eu/m": {"inputs": 1}}},
            "prices.eu/m.inputs: there is no such setting; did you mean prices.eu/m.input?",
        ),
        (
            {"databases": {"kb": {"vendor": "pinecone", "cloud": "aws"}}},
            "databases.kb: cloud and region are set together or not at all",
        ),
        *(
            (
                {"databases": {"kb": {"vendor": "pgvector", "dsn": dsn}}},
                "databases.kb.dsn: must look like postgresql://user:password@host:5432/database",
            )
            for dsn in ("mysql://h/d", "host=h", "postgresql://h:x/d")
        ),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_as_it_is_written(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**values)
    assert fault(caught.value) == said


def test_several_hosts_of_a_database_are_for_its_driver_to_read() -> None:
    dsn = "postgresql://u:p@a:5432,b:5433/d"
    assert Settings.model_validate({"databases": {"kb": {"vendor": "pgvector", "dsn": dsn}}}).databases


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("ORCHESTRATOR_ENGIN", "did you mean ORCHESTRATOR_ENGINE?"),
        ("ORCHESTRATOR_ENGINE__X", "did you mean ORCHESTRATOR_ENGINE?"),
        ("ORCHESTRATOR_PORT", "did you mean ORCHESTRATOR_SERVER__PORT?"),
        ("ORCHESTRATOR_PROVIDER__EU__API_KEY", "did you mean ORCHESTRATOR_PROVIDERS__EU__API_KEY?"),
        ("ORCHESTRATOR_ZZZ__EU", "`llm-orchestrator settings` lists all there are"),
        ("orchestrator_whatever", "`llm-orchestrator settings` lists all there are"),
    ],
)
def test_a_variable_that_is_no_setting_is_refused_with_what_was_meant(variable: str, near: str) -> None:
    assert unknown_variables({variable: "x", "HOME": "/"}) == [f"{variable} is no setting; {near}"]


def test_what_kubernetes_says_of_a_service_is_no_misspelt_setting() -> None:
    made = {
        "ORCHESTRATOR_SERVICE_HOST": "10.0.0.1",
        "ORCHESTRATOR_SERVICE_PORT": "80",
        "ORCHESTRATOR_SERVICE_PORT_HTTP": "80",
        "ORCHESTRATOR_PORT": "tcp://10.0.0.1:80",
        "ORCHESTRATOR_PORT_80_TCP": "tcp://10.0.0.1:80",
        "ORCHESTRATOR_PORT_80_TCP_ADDR": "10.0.0.1",
        "ORCHESTRATOR_POSTGRESQL_SERVICE_HOST": "10.0.0.2",
        "ORCHESTRATOR_POSTGRESQL_PORT": "tcp://10.0.0.2:5432",
        "ORCHESTRATOR_POSTGRESQL_PORT_5432_TCP_PROTO": "tcp",
    }
    assert unknown_variables(made) == []
    assert len(unknown_variables({**made, "ORCHESTRATOR_PORT": "80"})) == 1
