"""Notes on what a schema file declares in vain: named for the operator, because nothing else would tell."""
from collections.abc import Sequence

from leanstorage.rules import numbering
from leanstorage.store import Document
from leanstorage.takeout import declarations, load
from leanstorage.takeout.formats import Columns
from leanstorage.takeout.report import Report

SHOWN_NAMES = 20  # in one note
MAX_NAME = 100


def tell(report: Report, schemas: dict[str, Columns], settings: Document) -> None:
    """Count the declared classes, and note for each what counts here, and what is lost."""
    report.declared.update(schemas)
    for class_name, columns in schemas.items():
        wanted = [key for key, column in columns.items() if column.get("auto_increment") is True]
        counting = [key for key in wanted if numbering.may_count(class_name, {"type": columns[key]["type"]})]
        indexes = declarations.indexes(class_name, columns, settings.get("indexes"))
        unseen = [key for key, column in columns.items() if column.get("hidden") is True]
        for text, names in (
            ("columns that clients are not shown, as on LeanCloud", unseen),
            ("auto_increment columns, which go on after their highest number", counting),
            ("auto_increment columns, which get no number here", [key for key in wanted if key not in counting]),
            ("defaults of columns that were not taken", declarations.lost_defaults(class_name, columns)),
            ("unique indexes that cannot be made here", indexes.lost),
            ("indexes that were not made, see `index`", indexes.plain),
        ):
            if names:
                report.note(class_name, f"{text}: {_shown(names)}", len(names))
        permissions = settings.get("permissions")
        if isinstance(permissions, dict) and permissions and load.permissions_of(permissions) is None:
            text = f"class permissions that were not taken, see `permissions`: {_shown(list(permissions))}"
            report.note(class_name, text, len(permissions))


def _shown(names: Sequence[str]) -> str:
    more = ["..."] if len(names) > SHOWN_NAMES else []
    return ", ".join([*(name[:MAX_NAME] for name in names[:SHOWN_NAMES]), *more])
