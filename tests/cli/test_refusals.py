"""What the command line refuses: one line that says what to do, and an exit code that says what it was."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import typer

from app.bootstrap import Service
from app.cli import _built
from app.settings import Settings
from tests.cli.program import call

NO_MODEL = {"OPENAI_API_KEY": "unused", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
"""Lets `demo` begin where the packaged models are not installed; nothing is called before the failure."""
HELLO = """\
name: hello
inputs: {type: object, required: [who], properties: {who: {type: string}}}
steps:
  - {id: greet, type: llm, provider: echo, model: any, prompt: "Hello, {{ inputs.who }}!"}
"""
SEARCHING = (
    "  - {id: s, type: vector_search, database: embedded, index: kb, query: [1], depends_on: [greet]}\n"
)
WRONG = """\
name: wrong
steps:
  - id: search_docs
    type: vector_search
    database: embedded
    index: kb
    query: [1]
    topk: 3
  - id: answer
    type: llm
    provider: echo
    model: any
    prompt: "{{ steps.serch_docs.hits }}"
"""


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    file = tmp_path / "hello.yaml"
    file.write_text(HELLO)
    return file


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"ORCHESTRATOR_SERVER__PROT": "1"},
            "server.prot: there is no such setting; did you mean server.port?",
        ),
        ({"ORCHESTRATOR_SEVER__PORT": "1"}, "ORCHESTRATOR_SEVER__PORT is no setting"),
        ({"ORCHESTRATOR_PORT": "9000"}, "did you mean ORCHESTRATOR_SERVER__PORT?"),
        ({"ORCHESTRATOR_SERVER_PORT": "9000"}, "did you mean ORCHESTRATOR_SERVER__PORT?"),
        ({"ORCHESTRATOR_DATADIR": "x"}, "did you mean ORCHESTRATOR_DATA_DIR?"),
        ({"ORCHESTRATOR_SERVER__PORT": "99999"}, "server.port"),
        ({"ORCHESTRATOR_SERVER__HOST": "192.0.2.1"}, "ORCHESTRATOR_SERVER__ALLOW_OPEN=true"),
        ({"ORCHESTRATOR_CONFIG": "missing.yaml"}, "'missing.yaml' of ORCHESTRATOR_CONFIG cannot be read"),
        ({"ORCHESTRATOR_PROVIDERS__X__VENDOR": "other"}, "providers.x: vendor must be"),
        ({"ORCHESTRATOR_PROVIDERS__X__BASE_URL": "nowhere"}, "must look like https://host/path"),
        ({"ORCHESTRATOR_PROVIDERS__X__BASE_URL": "http://h/v1?key=1"}, "without credentials or a query"),
        ({"ORCHESTRATOR_PROVIDERS__X__BASE_URL": "http://h/v1#x"}, "without credentials or a query"),
        ({"ORCHESTRATOR_PROVIDERS__X__BASE_URL": "http://h:99999/v1"}, "must look like https://host/path"),
        ({"OPENAI_BASE_URL": "http://h/v1?key=1"}, "without credentials or a query"),
        ({"ORCHESTRATOR_PROVIDERS__X__HEADERS": '{"a b": "c"}'}, "'a b' is no header that can be set"),
        ({"ORCHESTRATOR_PROVIDERS__X__HEADERS": '{"Host": "c"}'}, "'Host' is no header that can be set"),
        ({"ORCHESTRATOR_PROVIDERS__X__HEADERS": '{"a": "é"}'}, "must be one line of ASCII"),
        ({"ORCHESTRATOR_PROVIDERS__X__EMBEDDING_FORMAT": "hex"}, "embedding_format"),
        ({"ORCHESTRATOR_SERVER__ALLOWED_HOSTS": "http://a"}, "without scheme and port"),
        ({"ORCHESTRATOR_VECTORS__CACHE_MIB": "0"}, "vectors.cache_mib"),
        ({"ORCHESTRATOR_TELEMETRY__OTLP_ENDPOINT": "collector:4318"}, "must look like https://host/path"),
        ({"OPENAI_BASE_URL": "nowhere"}, "OPENAI_BASE_URL must look like https://host/path"),
        ({"ORCHESTRATOR_ACTIONS__WEBHOOK_URL": "ftp://x"}, "actions.webhook_url: must look like"),
        (
            {"ORCHESTRATOR_PROVIDERS__X__HEADERS": '{"a": canary}'},
            "ORCHESTRATOR_PROVIDERS__X__HEADERS is no JSON: Expecting value at character 7; write an object",
        ),
        (
            {"ORCHESTRATOR_PROVIDERS__X": '{"api_key":\n canary}'},
            "ORCHESTRATOR_PROVIDERS__X is no JSON: Expecting value at line 2, column 2; write an object",
        ),
        (
            {"ORCHESTRATOR_DATABASES": '{"a": "canary'},
            "ORCHESTRATOR_DATABASES is no JSON: Unterminated string",
        ),
        ({"ORCHESTRATOR_DATABASES__KB": "7"}, "ORCHESTRATOR_DATABASES__KB should be a JSON object; write"),
        ({"ORCHESTRATOR_LOG": "debug"}, "is a group; set what it holds, such as ORCHESTRATOR_LOG__LEVEL"),
        ({"ORCHESTRATOR_WHATEVER": "1"}, "ORCHESTRATOR_WHATEVER is no setting"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(
    variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    ended = call("serve", "--data-dir", tmp_path / "data", cwd=tmp_path, **variables)
    assert ended.code == 2
    (line,) = ended.error_lines
    assert line.startswith("llm-orchestrator: settings: ")
    assert said in line
    assert "canary" not in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("servr: {port: 1}", "servr: there is no such setting; did you mean server?"),
        ("server: {prt: 1}", "server.prt: there is no such setting; did you mean server.port?"),
        ("zzz: {port: 1}", "zzz: there is no such setting; `llm-orchestrator settings` lists"),
        ("server: {port: 1", "cannot be used (line 2, column 1): not YAML"),
        (
            "server: {port: 1}\nserver: {port: 2}",
            "cannot be used (line 2, column 1): 'server' is given twice; keep",
        ),
        ("server:\n  port: 1\n  port: 2", "(line 3, column 3): 'port' is given twice; keep one of the two"),
        ("a: &x {port: 1}\nserver: *x", "(line 1, column 4): the anchor is not accepted"),
        (
            "providers: {x: {api_key: 98765432109876543210}}",
            "the value is an integer of more than 64 bits; write",
        ),
        ("- server", "must hold groups"),
    ],
)
def test_a_settings_file_that_cannot_be_used_is_refused_in_one_line(
    content: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "settings.yaml").write_text(content)
    ended = call("serve", cwd=tmp_path, ORCHESTRATOR_CONFIG="settings.yaml")
    assert ended.code == 2
    (line,) = ended.error_lines
    assert said in line


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ("providers: [a]", "providers"),
        ("providers:", "providers"),
        ("providers: {eu: [a]}", "providers.eu"),
        ("server: 9000", "server"),
    ],
)
def test_a_file_is_not_passed_over_in_silence_where_a_variable_sets_the_same_group(
    content: str, path: str, tmp_path: Path
) -> None:
    (tmp_path / "settings.yaml").write_text(content)
    ended = call(
        *("serve", "--port", "0"),
        cwd=tmp_path,
        ORCHESTRATOR_CONFIG="settings.yaml",
        ORCHESTRATOR_PROVIDERS__EU__API_KEY="k",
    )
    assert ended.code == 2
    (line,) = ended.error_lines
    assert f"settings: {path} should be an object and is " in line
    assert line.endswith(" in the file")


def test_variables_that_kubernetes_sets_for_a_service_of_that_name_are_no_settings(
    hello: Path, tmp_path: Path
) -> None:
    ended = call(
        *("run", hello, "-i", "who=Ada"),
        cwd=tmp_path,
        ORCHESTRATOR_PORT="tcp://192.0.2.1:80",
        ORCHESTRATOR_SERVICE_HOST="192.0.2.1",
        ORCHESTRATOR_PORT_80_TCP="tcp://192.0.2.1:80",
    )
    assert ended.code == 0


# --- where it listens and stores ----------------------------------------------------------------------


def test_an_open_address_is_refused_unless_it_is_asked_for(tmp_path: Path) -> None:
    ended = call("serve", "--host", "0.0.0.0", cwd=tmp_path)  # noqa: S104  it is what is refused
    assert ended.code == 2
    (line,) = ended.error_lines
    assert "no authentication" in line
    assert "ALLOW_OPEN" in line


def test_a_data_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = call("serve", "--data-dir", "file", cwd=tmp_path)
    assert ended.code == 3
    (line,) = ended.error_lines
    assert line.startswith("llm-orchestrator: data_dir 'file' cannot be used")


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "orchestrator.db").write_text("this is no database, but long enough to be looked at" * 20)
    ended = call("serve", "--port", "0", "--data-dir", tmp_path, cwd=tmp_path)
    assert ended.code == 3
    assert "not a SQLite database" in ended.error_lines[-1]
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("name", ["serve", "run", "demo"])
def test_a_damaged_vector_database_is_refused_in_one_line(name: str, hello: Path, tmp_path: Path) -> None:
    (tmp_path / "vectors.db").write_text("this is no database, but long enough to be looked at" * 200)
    searching = tmp_path / "searching.yaml"
    searching.write_text(hello.read_text() + SEARCHING)
    arguments = {
        "serve": ["--port", "0"],
        "run": [str(searching), "-i", "who=Ada"],
        "demo": ["--once", "--port", "0"],
    }[name]
    ended = call(
        name, *arguments, "--data-dir", tmp_path, cwd=tmp_path, ORCHESTRATOR_LOG__LEVEL="error", **NO_MODEL
    )
    assert ended.code == 3
    (line,) = ended.error_lines
    assert "vector store's file is damaged" in line


def test_a_demo_whose_service_cannot_start_ends_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "orchestrator.db").write_text("this is no database, but long enough to be looked at" * 200)
    ended = call("demo", "--once", "--port", "0", "--data-dir", tmp_path, cwd=tmp_path, **NO_MODEL)
    assert ended.code == 3
    (line,) = ended.error_lines
    assert "not a SQLite database" in line
    assert "the demo stopped" not in ended.out


def test_settings_that_do_not_work_together_are_refused_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def build(settings: Settings) -> Service:
        raise ValueError(f"port {settings.server.port} is cursed; choose another")

    with pytest.raises(typer.Exit) as ended:
        _built(build, Settings())
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "llm-orchestrator: settings: port 8000 is cursed; choose another\n"


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = call("serve", "--port", str(port), "--data-dir", tmp_path, cwd=tmp_path)
    assert ended.code == 3
    assert f"cannot listen on 127.0.0.1:{port}" in ended.error_lines[-1]
    assert "Traceback" not in ended.err


# --- documents and inputs -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run", "validate"])
def test_a_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    ended = call(name, "missing.yaml", cwd=tmp_path)
    assert ended.code == 2
    assert ended.error_lines == ["llm-orchestrator: missing.yaml: No such file or directory"]


@pytest.mark.parametrize("name", ["run", "validate"])
def test_every_problem_of_a_document_is_one_line_with_its_place(name: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(WRONG)
    ended = call(name, "wrong.yaml", cwd=tmp_path)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.error_lines == [
        "wrong.yaml:8:5: /steps/0/topk: unknown key 'topk' (did you mean 'top_k'?)",
        "wrong.yaml:13:5: /steps/1/prompt: unknown step 'serch_docs' (did you mean 'search_docs'?)",
    ]


def test_one_invalid_document_among_valid_ones_fails_the_check(hello: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(WRONG)
    ended = call("validate", "wrong.yaml", hello, cwd=tmp_path)
    assert ended.code == 2
    assert ended.out == f"{hello}: valid (hello 1, 1 steps)\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "who"], "--input 'who' must be name=value"),
        (["--input", "=Ada"], "--input '=Ada' must be name=value"),
        (["--inputs", "{"], "--inputs is not JSON"),
        (["--inputs", "[]"], "--inputs must be a JSON object"),
        (["--input", "who=@missing.txt"], "the --input file 'missing.txt' cannot be read: No such file"),
        ([], "inputs: /: 'who' is missing (add --input who=…)"),
        (["--input", "who=5"], "(to pass it as text, write --input 'who=\"5\"')"),
        (["--input", "who=true"], "(to pass it as text, write --input 'who=\"true\"')"),
        (["--input", "who=[5]"], "inputs: /who: "),
        (["--input", "who=Ada", "--input", "whom=Bob"], "inputs: /whom: "),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(
    arguments: list[str], said: str, hello: Path, tmp_path: Path
) -> None:
    if "whom=Bob" in arguments:
        hello.write_text(HELLO.replace("required: [who],", "required: [who], additionalProperties: false,"))
    ended = call("run", hello, *arguments, cwd=tmp_path)
    assert ended.code == 2
    (line,) = ended.error_lines
    assert said in line
    assert ended.out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--port", "abc"], "Invalid value for '--port'"),
        (["serve", "--prot", "1"], "No such option: --prot"),
        (["sevre"], "No such command 'sevre'. Did you mean 'serve'?"),
        (["run"], "Missing argument 'file'."),
        (["validate"], "Missing argument 'files'."),
        (["--helb"], "No such option: --helb"),
        (["migrate", "--from", "mysql"], "Invalid value for '--from'"),
    ],
)
def test_wrong_usage_is_told_in_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    ended = call(*arguments, cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    (line,) = ended.error_lines
    assert line.startswith("llm-orchestrator: ")
    assert said in line
    assert line.endswith(" --help')")


def test_without_a_command_the_commands_are_listed(tmp_path: Path) -> None:
    ended = call(cwd=tmp_path)
    assert ended.code == 2
    assert "Serve the REST API" in ended.out
