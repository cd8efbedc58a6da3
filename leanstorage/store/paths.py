"""What a dotted key reaches in a value that holds arrays: MongoDB's rules, in Python for what SQL does not do.

A name reaches into an object, and into each object of an array. A number is also the place of an element, and then the
element is meant as it is: an array that a number leads to stands for itself, any other also for each of its elements.
"""
import re
from collections.abc import Iterator

from leanstorage.store import Json, Path

INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class _Missing:
    """Where an object has no such key, which `null` matches."""


MISSING = _Missing()


def reached(value: Json, path: Path) -> Iterator[tuple[Json, bool]]:
    """(what is reached or MISSING, whether its elements are meant as well) for a value and the rest of a path."""
    if not path:
        yield value, True
    elif isinstance(value, dict):
        yield from reached(value.get(path[0], MISSING), path[1:])
    elif not isinstance(value, list):
        yield MISSING, True
    else:
        for element in value:
            if isinstance(element, dict):
                yield from reached(element, path)
        place = int(path[0]) if INDEX.fullmatch(path[0]) else len(value)
        if place < len(value):
            if len(path) == 1:
                yield value[place], False
            elif isinstance(value[place], (dict, list)):
                yield from reached(value[place], path[1:])


def values_at(value: Json, path: Path, is_spread: bool = True) -> Iterator[Json]:
    """All that a condition looks at: what is reached and, if `is_spread`, the elements of the arrays among it."""
    for found, has_elements in reached(value, path):
        yield found
        if is_spread and has_elements and isinstance(found, list):
            yield from found
