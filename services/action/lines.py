"""Where in a TOML document something stands: the line of each table and key. Pure; for documents that are valid."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Place = tuple[str | int, ...]

# Strings and comments whole, so that a bracket or an equals sign in them is not taken for one.
_TOKEN = re.compile(
    r'"""(?:\\.|.)*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[^"\'#\[\]{}=\n]+|.', re.DOTALL
)


def lines_of(text: str) -> dict[Place, int]:
    """The line, counted from 1, on which each table and key of a valid document begins."""
    found: dict[Place, int] = {(): 1}
    table: Place = ()
    for line, head in _heads(text):
        is_table = head.startswith("[")
        path = _path(tomllib.loads(head if is_table else f"{head} = 0"))
        table, path = (path, path) if is_table else (table, table + path)
        for end in range(1, len(path) + 1):
            found.setdefault(path[:end], line)
    return found


def line_of(path: Sequence[str | int], lines: Mapping[Place, int]) -> int:
    """The line of a path, or of the nearest part around it that has one."""
    return next(lines[tuple(path[:end])] for end in range(len(path), -1, -1) if tuple(path[:end]) in lines)


def _heads(text: str) -> Iterator[tuple[int, str]]:
    """Line and head of every statement: a table's header, or what stands before a key's equals sign."""
    head, at, line, depth, is_key = "", 1, 1, 0, True
    for part in (match[0] for match in _TOKEN.finditer(text + "\n")):
        if part == "\n" and depth == 0:
            if head.strip():
                yield at, head.strip()
            head, at, is_key = "", line + 1, True
        elif part == "=" and depth == 0:
            is_key = False
        elif is_key and not part.startswith("#"):
            head += part
        depth += (part in ("[", "{")) - (part in ("]", "}"))
        line += part.count("\n")


def _path(document: Any) -> Place:
    """The one path of a document that has only one."""
    path: Place = ()
    while document and isinstance(document, dict | list):
        if isinstance(document, dict):
            path += (next(iter(document)),)
        document = document[path[-1]] if isinstance(document, dict) else document[0]
    return path
