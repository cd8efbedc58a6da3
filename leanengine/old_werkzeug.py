"""Werkzeug 1.0.1, which the SDK pins, on Python 3.14: its router builds functions of `ast.Str`, which is gone there.

Only Werkzeug's router sees an `ast` with that name; everybody else's `ast` is untouched. Import this before the SDK,
which builds routes at import time. It does the same on every Python, so that one code path is tested.
"""
import ast
from types import SimpleNamespace
from typing import Any

from werkzeug import routing


class Str(ast.Constant):
    """A string in a syntax tree, with its text as `s`."""

    def __init__(self, s: str) -> None:
        super().__init__(s)

    s: Any = property(lambda self: self.value)  # in place of Constant's own, which warns in 3.12 and 3.13


routing.ast = SimpleNamespace(**{**vars(ast), "Str": Str})
