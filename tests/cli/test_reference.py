"""`docs/cli.md` says of every command what `--help` says."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command

from app import cli, invocation
from tests.examples.snippets import ROOT
from tests.examples.test_facts import rows, section

COMMANDS = get_command(cli.cli).commands  # type: ignore[attr-defined]  # a program of several commands is a group
DOCUMENT = "docs/cli.md"


def said(command: object) -> dict[str, str]:
    """Arguments and options as the program has them, each with its help."""
    found = {}
    for parameter in command.params:  # type: ignore[attr-defined]  # typer's own subclasses of click's
        argument = parameter.param_type_name == "argument"
        names = [parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
        found[", ".join(f"`{name}`" for name in names)] = parameter.help
    return found


def test_every_command_has_its_section_and_no_other() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / DOCUMENT).read_text(), re.MULTILINE)
    assert headings == ["Without a command", *COMMANDS, "Exit codes"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_described_as_it_describes_itself(name: str) -> None:
    text = section(DOCUMENT, f"## {name}")
    summary = COMMANDS[name].help.partition("\n\n")[0].replace("\n", " ")
    assert text.strip().startswith(summary)
    assert dict(rows(text)) == said(COMMANDS[name])


def test_the_options_of_the_program_are_listed() -> None:
    assert dict(rows(section(DOCUMENT, "## Without a command"))) == said(get_command(cli.cli))


def test_every_exit_code_is_listed() -> None:
    codes = [int(row[0].strip("`")) for row in rows(section(DOCUMENT, "## Exit codes"))]
    assert codes == [
        invocation.OK,
        invocation.NOT_COMPLETED,
        invocation.INVALID,
        invocation.UNUSABLE,
        invocation.INTERRUPTED,
    ]
