"""What an index is made of: the expressions that queries are compiled to."""
from collections.abc import Sequence

from leanstorage.store.compiler import Compiler
from leanstorage.store.fragments import ALONE_INDEXED, INDEXED_TYPES, MAX_INDEX_KEYS, index_name, quoted


def check_keys(compiler: Compiler, class_name: str, keys: Sequence[str]) -> str:
    """The column type of the first of the keys; raise ValueError for keys that no index can hold."""
    if not 0 < len(keys) <= MAX_INDEX_KEYS:
        raise ValueError(f"an index has 1 to {MAX_INDEX_KEYS} keys")
    types = []
    for key in keys:
        column_type = compiler.type_of_column(class_name, (key,))
        if column_type is None or (column_type not in INDEXED_TYPES and column_type not in ALONE_INDEXED):
            what = f"of type {column_type}" if column_type else "not a column of this class"
            raise ValueError(f"{key} cannot be indexed: it is {what}")
        if column_type in ALONE_INDEXED and len(keys) > 1:
            raise ValueError(f"{key} is of type {column_type}: its index can have no other key")
        types.append(column_type)
    return types[0]


def definition(compiler: Compiler, class_name: str, keys: Sequence[str]) -> tuple[str, str]:
    """(name, `(columns) WHERE ...`) of the index that finds values of `keys`, those of equal ones oldest first.

    Of points it has the cells of the grid. Raises ValueError.
    """
    first_type = check_keys(compiler, class_name, keys)
    if first_type == "GeoPoint":
        columns = compiler.cell(keys[0], "o")
    else:
        columns = ", ".join([*(compiler.index_column(class_name, key) for key in keys), "created"])
    return index_name(class_name, keys), f"({columns.replace('o.body', 'body')}) WHERE class = {quoted(class_name)}"
