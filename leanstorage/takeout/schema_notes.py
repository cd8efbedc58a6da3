"""Notes on what a schema file declares in vain: named for the operator, because nothing else would tell."""
from collections.abc import Sequence

from leanstorage.store import Document, Json
from leanstorage.takeout.formats import Columns
from leanstorage.takeout.load import are_permissions
from leanstorage.takeout.report import Report

SHOWN_NAMES = 20  # in one note
MAX_NAME = 100


def tell(report: Report, schemas: dict[str, Columns], settings: Document) -> None:
    """Count the declared classes, and note for each what is lost."""
    report.declared.update(schemas)
    for class_name, columns in schemas.items():
        counting = [key for key, column in columns.items() if column.get("auto_increment") is True]
        unique, plain = _mongo_indexes(settings.get("indexes"))
        unseen = [key for key, column in columns.items() if column.get("hidden") is True]
        rights = [key for key, column in columns.items() if column["type"] == "ACL" and column.get("default") is not None]
        for text, names in (
            ("columns that clients are not shown, as on LeanCloud", unseen),
            ("default ACLs that were not taken, see `permissions --default-acl`", rights),
            ("auto_increment columns, which get no number here", counting),
            ("unique indexes that were not made, see `index --unique`", unique),
            ("indexes that were not made, see `index`", plain),
        ):
            if names:
                report.note(class_name, f"{text}: {_shown(names)}", len(names))
        permissions = settings.get("permissions")
        if isinstance(permissions, dict) and permissions and not are_permissions(permissions):
            text = f"class permissions that were not taken, see `permissions`: {_shown(list(permissions))}"
            report.note(class_name, text, len(permissions))


def _mongo_indexes(indexes: Json) -> tuple[list[str], list[str]]:
    """The keys of unique and of other indexes as LeanCloud writes them: `{"key": {"nid": 1}, "unique": true}`."""
    found: dict[bool, list[str]] = {True: [], False: []}
    for index in indexes if isinstance(indexes, list) else ():
        keys = index.get("key") if isinstance(index, dict) else None
        if isinstance(keys, dict) and keys and list(keys) != ["_id"]:
            found[index.get("unique") is True].append("+".join(keys))
    return found[True], found[False]


def _shown(names: Sequence[str]) -> str:
    more = ["..."] if len(names) > SHOWN_NAMES else []
    return ", ".join([*(name[:MAX_NAME] for name in names[:SHOWN_NAMES]), *more])
