"""What a dotted key reaches in a value that holds arrays: MongoDB's rules, in Python for what SQL does not do.

A name reaches into an object, and into each object of an array. A number is also the place of an element, and then the
element is meant as it is: an array that a number leads to stands for itself, any other also for each of its elements.

A numeric name can reach one place in two ways, so N of them could in 2 to the power of N: each place is visited once
for each rest of the path.
"""
import re
from collections.abc import Iterator

from leanstorage.store import Json, Path

INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class _Missing:
    """Where an object has no such key, which `null` matches."""


MISSING = _Missing()


def reached(value: Json, path: Path, seen: set[tuple[int, int]] | None = None) -> Iterator[tuple[Json, bool]]:
    """(what is reached or MISSING, whether its elements are meant as well) for a value and the rest of a path.

    `seen` holds the places that were looked at, by identity and the length of the rest.
    """
    seen = set() if seen is None else seen
    if isinstance(value, (dict, list)):
        place = (id(value), len(path))
        if place in seen:
            return
        seen.add(place)
    if not path:
        yield value, True
    elif isinstance(value, dict):
        yield from reached(value.get(path[0], MISSING), path[1:], seen)
    elif not isinstance(value, list):
        yield MISSING, True
    else:
        for element in value:
            if isinstance(element, dict):
                yield from reached(element, path, seen)
        index = int(path[0]) if INDEX.fullmatch(path[0]) else len(value)
        if index < len(value):
            if len(path) == 1:
                yield value[index], False
            elif isinstance(value[index], (dict, list)):
                yield from reached(value[index], path[1:], seen)


def values_at(value: Json, path: Path, is_spread: bool = True) -> Iterator[Json]:
    """All that a condition looks at: what is reached and, if `is_spread`, the elements of the arrays among it."""
    for found, has_elements in reached(value, path):
        yield found
        if is_spread and has_elements and isinstance(found, list):
            yield from found
