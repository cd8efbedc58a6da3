"""After a save, the object holds what storage holds: a handler sees what a before hook changed.

The SDK keeps the values that it sent, unless every save asks for `fetch_when_save`. That option replaces every pointer
by a new one without data, so that the object's owner, for example, would lose its fields.
"""
from typing import Any

import leancloud
from leancloud import utils

NEVER_SENT = frozenset(["objectId", "createdAt", "updatedAt", "ACL"])
_save = leancloud.Object.save


def save(self: Any, where: Any = None, fetch_when_save: bool | None = None) -> None:
    """`leancloud.Object.save`, which also takes over values that came back changed, unless `fetch_when_save` is given."""
    if fetch_when_save is not None:
        _save(self, where, fetch_when_save)
        return
    had, is_new = dict(self._attributes), self.is_new()
    sent = set(had) if is_new else {key.split(".")[0] for key in self._changes}
    answers: list[dict[str, Any]] = []

    def update(data: dict[str, Any]) -> None:
        answers.append(dict(data))
        type(self)._update_data(self, data)

    self._update_data = update
    try:
        _save(self, where, True)
    finally:
        del self._update_data
    shown = {key for answer in answers for key in answer} - NEVER_SENT
    for key, value in had.items():
        if key in shown and _is_same(value, self._attributes.get(key)):
            self._attributes[key] = value
        elif shown and key in sent - shown:  # a hook took it away; who may not read sees nothing, and keeps what was sent
            self._attributes.pop(key, None)


def see_hooks() -> None:
    """Make the SDK save so."""
    leancloud.Object.save = save


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are stored alike. A file's URL may be another one each time."""
    if isinstance(one, leancloud.File) and isinstance(other, leancloud.File):
        return bool(one.id == other.id)
    try:
        return bool(utils.encode(one) == utils.encode(other))
    except (ValueError, AttributeError):
        return False
