"""Finds words for people that are not marked for translation: in templates, in scripts, in Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser

from jinja2 import Environment, nodes

MARKS = {"_", "plural", "later"}
TOLD_ATTRIBUTES = {"alt", "aria-label", "aria-description", "placeholder", "title"}
FOR_OPERATORS = {
    "debug",
    "info",
    "warning",
    "error",
    "exception",
    "critical",
    "log",
    "add_argument",
    "ArgumentParser",
    "Fault",
    "exit",
    "compile",
    "search",
}
VALUE = "\ue000"  # stands for what a template fills in; no letter
_WORD = re.compile(r"[^\W\d_]{2,}")
_ATTRIBUTES = re.compile(r'(?:[\w-]+="[^"]*"\s*)+')  # of a macro that fills in a tag
_SENTENCE = re.compile(r"[A-Z][\w'’]*,? [\w'’%({]")


class _Told(HTMLParser):
    """Collects what a reader sees or hears of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        told = TOLD_ATTRIBUTES | ({"value"} if given.get("type") in ("submit", "button", "reset") else set())
        self.told += [value for name, value in attrs if name in told and value]
        if tag in ("script", "style"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif not self._inside:
            self.told.append(data)


def in_template(source: str) -> list[str]:
    """Words of a Jinja template that stand there as they are instead of coming through ``_`` or ``plural``."""
    environment = Environment()
    page = _Told()
    page.feed("".join(_filled(environment, source)))
    page.close()
    plain = [text.replace(VALUE, " ").strip() for text in page.told]
    found = [text for text in plain if _WORD.search(text) and not _ATTRIBUTES.fullmatch(text)]
    found += [text for text in _constants(environment.parse(source)) if _is_told(text)]
    return found + [text for script in page.scripts for text in in_script(script)]


def _filled(environment: Environment, source: str) -> Iterator[str]:
    inside = False
    for _line, kind, text in environment.lex(source):
        if kind in ("variable_begin", "block_begin", "comment_begin", "raw_begin", "linestatement_begin"):
            inside = kind != "raw_begin"
            if kind == "variable_begin":
                yield VALUE
        elif kind in ("variable_end", "block_end", "comment_end", "linestatement_end"):
            inside = False
        elif not inside and kind == "data":
            yield text


def _constants(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in MARKS:
        for value in node.kwargs:
            yield from _constants(value)
        return
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    for child in node.iter_child_nodes():
        yield from _constants(child)


def _is_told(text: str) -> bool:
    """Whether a string of an expression is one for people: a sentence, or a word with a capital letter."""
    return bool(_SENTENCE.match(text) or re.fullmatch(r"[A-Z][a-z]+", text))


def in_script(source: str) -> list[str]:
    """Sentences in the strings of a script: they are to come from the page."""
    code = re.sub(r"/\*.*?\*/|(?<![:\"'`])//[^\n]*", "", source, flags=re.DOTALL)
    strings = re.findall(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|`(?:[^`\\]|\\.)*`', code)
    return [text[1:-1] for text in strings if _SENTENCE.match(text[1:-1])]


def in_python(source: str) -> list[str]:
    """Sentences in Python that are neither marked nor for operators: logs, faults of the site file, command lines."""
    return list(_sentences(ast.parse(source)))


def _sentences(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and _called(node) in MARKS | FOR_OPERATORS:
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.keyword) and node.arg == "help":
        return
    text = _text(node)
    if text is not None:
        if _SENTENCE.match(text):
            yield text
        return
    for child in ast.iter_child_nodes(node):
        yield from _sentences(child)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None
