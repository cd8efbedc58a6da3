"""Werkzeug 1.0.1, which the SDK pins, on Python 3.14: its router builds functions of `ast.Str`, which is gone there.

It alone gets a view of `ast` that has the name; the module that everybody else imports stays as it is. To be imported
before the SDK, which makes routes as it is imported. On every Python, so that there is one way to test.
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
