"""`leanstorage classes`: how much is in each class, what one is made of, and new ones."""
from leanstorage.operator import sizes
from leanstorage.rules import classes, values
from leanstorage.rules.values import format_time
from leanstorage.store import Document, Store, Transaction

ACTIONS = ("find", "get", "create", "update", "delete", "add_fields")
# length() of a text counts characters, of a BLOB bytes.
SQLITE = "SELECT class, count(*), sum(length(CAST(body AS BLOB))) FROM objects GROUP BY class"
POSTGRESQL = "SELECT class, count(*), sum(pg_column_size(body)) FROM objects GROUP BY class"


def listed(store: Store) -> list[Document]:
    """Each class with the number of its objects and columns, the bytes of its documents, its last write; by name."""
    counted = {name: (count, int(size)) for name, count, size in sizes.rows(store, SQLITE, POSTGRESQL)}

    def work(transaction: Transaction) -> list[Document]:
        found = []
        for name in transaction.class_names():
            count, size = counted.get(name, (0, 0))
            info = classes.existing(transaction, name)
            last = transaction.last_write(name)
            found.append(
                {
                    "class": name,
                    "objects": count,
                    "bytes": size,
                    "columns": len(info["columns"]),
                    "lastWrite": format_time(last) if last else None,
                }
            )
        return found

    return store.read(work)


def show(store: Store, name: str) -> Document:
    """One class: what `listed` has of it, its columns, indexes, rights and default ACL. Raises ValueError."""
    one = next((row for row in listed(store) if row["class"] == name), None)
    if one is None:
        raise ValueError(f"there is no class {name}")
    info = store.read(lambda transaction: classes.existing(transaction, name))
    columns = {key: _type(column) for key, column in sorted({**classes.BUILT_IN_COLUMNS, **info["columns"]}.items())}
    rights = {action: who(info["permissions"].get(action)) for action in ACTIONS}
    return {**one, "columns": columns, "indexes": info.get("indexes", []), "rights": rights, "defaultACL": info["default_acl"]}


def create(store: Store, name: str) -> None:
    """Make an empty class, for servers whose clients may not. Raises ValueError if there is one, StorageError for no name of one."""
    values.check_class_name(name)

    def work(transaction: Transaction) -> None:
        if classes.load(transaction, name, lock=True) is not None:
            raise ValueError(f"there is a class {name} already")
        info = classes.empty_info(name)
        info.pop("is_new")
        transaction.save_class(name, info)

    store.write(work)


def who(rule: Document | None) -> str:
    """Whom a class permission lets in, as `leanstorage permissions` takes it."""
    if rule is None:
        return "everyone"
    return "users" if rule["users"] else ",".join(rule["names"]) or "nobody"


def _type(column: dict[str, str]) -> str:
    return f"{column['type']}({column['className']})" if "className" in column else column["type"]
