"""How many calls a pull needs at most if nothing changes meanwhile, said before it starts."""

from collections.abc import Mapping

from leanstorage.rules import values
from leanstorage.takeout import pull_files, pull_relations
from leanstorage.takeout.formats import Columns
from leanstorage.takeout.pull import Pull

PAGE_ROWS = 1000
FIXED = 6  # of each class: the time twice, the pass through what changed, two counts, one page more


def calls(pull: Pull, schemas: Mapping[str, Columns], with_files: bool) -> int:
    """The number of calls; it takes one for each class itself, which are not in it, and leaves the counts in `pull`."""
    total = 0
    for name, columns in schemas.items():
        count = pull.count(name)
        pages = -(-count // PAGE_ROWS) + 1
        state = pull.state(name)
        total += FIXED + pages + (0 if state.get("is_done") else pages)
        if state.get("is_done"):
            total += changed(pull, name, values.parse_time(state["since"])) // PAGE_ROWS + 1
        for key in pull_relations.columns_of(name, columns):
            total += _owners(pull, name, key, count)
        if name == "_File" and with_files:
            total += -(-count // pull_files.PAGE_ROWS) + 2
    return total


def changed(pull: Pull, name: str, at: int) -> int:
    """How many objects were changed there since `at` ms."""
    where = {"updatedAt": {"$gte": values.date(at)}}
    return pull.remote.count(f"/classes/{name}", where=where) or 0


def _owners(pull: Pull, name: str, key: str, count: int) -> int:
    """Calls for one relation column: one for each owner that is to be asked, and one more for 50 of them."""
    state = pull.state(f"{name}.{key}")
    as_of = pull_relations.as_of(pull, name, key)
    if state.get("is_done"):
        of_class = pull.state(name)
        count = changed(pull, name, values.parse_time(of_class["since"])) if of_class.get("since") else count
    elif as_of:
        count = changed(pull, name, as_of)
    return count + 2 * (count // pull_relations.ASKED_AT_ONCE + 2)
