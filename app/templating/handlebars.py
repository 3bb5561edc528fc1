"""Finds Handlebars in a template, which Jinja2 would misread, and says how each piece is written here.

Plain `{{ path }}` is the same in both and passes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from app.templating.findings import Finding

_OPENING = re.compile(r"\{\{|\{%|\{#")
_TAG = re.compile(r"\{\{(?P<raw>\{)?~?(?P<body>[^{}]*)~?\}\}\}?")
_RAW = re.compile(r"\{%[-+]?\s*raw\s*-?%\}")
_END_OF_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_PATH = re.compile(r"[\w@./-]+")
_BLOCK_PARAMETERS = re.compile(r"(?P<subject>.*?)\s+as\s+\|\s*(?P<name>\w+)[^|]*\|")
_LOOP_VARIABLES: Final = {
    "@index": "loop.index0",
    "@first": "loop.first",
    "@last": "loop.last",
    "@key": "key",
    "@root": "inputs",
}
_ENDS: Final = {"each": "endfor", "if": "endif", "unless": "endif", "with": "endwith"}


@dataclass(slots=True)
class _Reader:
    findings: list[Finding] = field(default_factory=list)
    items: list[str] = field(default_factory=list)

    def read(self, body: str, *, raw: bool, line: int) -> None:
        """Judge what stands between one pair of braces."""
        words = body.strip()
        form = self._form(words)
        if form is None and raw and _PATH.fullmatch(words):
            form = f"{{{{ {words} }}}} (nothing is escaped here, and there is no third brace)"
        if form is not None:
            shown = f"{{{{{{{words}}}}}}}" if raw else f"{{{{{words}}}}}"
            self.findings.append(Finding(f"{shown} is Handlebars, not Jinja2", f"write {form}", line))

    def _form(self, words: str) -> str | None:
        """How it is written here, or None for what is not Handlebars."""
        if words.startswith("../"):
            return f"the full path, such as {{{{ inputs.{words.rsplit('../', 1)[-1]} }}}}"
        rest = words[1:].strip()
        match words[:1]:
            case "#" | "^":
                form: str | None = self._open(rest)
            case "/":
                form = self._close(rest)
            case ">":
                form = f"the text of the partial {rest!r} itself, in its place"
            case "!":
                form = f"{{# {rest.strip('- ')} #}}"
            case "&":
                form = f"{{{{ {rest} }}}}"
            case "@":
                name, dot, path = words.partition(".")
                form = f"{{{{ {_LOOP_VARIABLES.get(name, 'loop.index0')}{dot}{path} }}}}"
            case _:
                form = None
        return form

    def _close(self, helper: str) -> str:
        if helper == "each" and self.items:
            self.items.pop()
        return f"{{% {_ENDS.get(helper, 'endif')} %}}"

    def _open(self, words: str) -> str:
        helper, _, subject = words.partition(" ")
        subject = subject.strip() or "inputs.value"
        parameters = _BLOCK_PARAMETERS.fullmatch(subject)
        name = parameters["name"] if parameters else "item"
        subject = parameters["subject"] if parameters else subject
        if helper == "each":
            self.items.append(name)
            return f"{{% for {name} in {self.path(subject)} %}}…{{% endfor %}}"
        if helper in {"if", "unless"}:
            test = self.path(subject) if helper == "if" else f"not {self.path(subject)}"
            return f"{{% if {test} %}}…{{% endif %}}"
        if helper == "with":
            return f"{{% with {name} = {self.path(subject)} %}}…{{% endwith %}}"
        return f"{{% if {self.path(words)} %}}…{{% endif %}}"

    def path(self, words: str) -> str:
        """A path in Jinja2: `this.x` is the item's."""
        item = self.items[-1] if self.items else "item"
        if words == "this" or words.startswith(("this.", "this/")):
            return item + words[len("this") :].replace("/", ".")
        return words.removeprefix("./").replace("/", ".")


def find_handlebars(source: str) -> list[Finding]:
    """Every piece of Handlebars, in order; none for a template that is Jinja2."""
    reader, item_tags = _Reader(), []
    position, line, counted = 0, 1, 0
    while opening := _OPENING.search(source, position):
        start = opening.start()
        line, counted = line + source.count("\n", counted, start), start
        if opening[0] != "{{":
            position = _after(source, start, opening[0])
            continue
        tag = _TAG.match(source, start)
        position = tag.end() if tag else start + 2
        if tag is None:
            continue
        words = tag["body"].strip()
        if words in {"else", "this"} or words.startswith(("this.", "else if ")):
            item_tags.append((words, reader.path(words), line))
        else:
            reader.read(tag["body"], raw=tag["raw"] is not None, line=line)
    if reader.findings:
        reader.findings.extend(_translated(item_tags))
        reader.findings.sort(key=lambda finding: finding.line or 0)
    return reader.findings


def _translated(tags: list[tuple[str, str, int]]) -> list[Finding]:
    """`{{else}}` and `{{this}}` are Handlebars for certain only beside other pieces of it."""
    findings = []
    for words, path, line in tags:
        form = f"{{{{ {path} }}}}"
        if words.startswith("else"):
            form = f"{{% elif {words[8:]} %}}" if words.startswith("else if ") else "{% else %}"
        findings.append(Finding(f"{{{{{words}}}}} is Handlebars, not Jinja2", f"write {form}", line))
    return findings


def _after(source: str, start: int, opening: str) -> int:
    """Where to go on after a comment, a raw block or the start of a statement."""
    if opening == "{#":
        end = source.find("#}", start)
        return len(source) if end < 0 else end + 2
    if _RAW.match(source, start):
        closing = _END_OF_RAW.search(source, start)
        return closing.end() if closing else len(source)
    return start + 2
