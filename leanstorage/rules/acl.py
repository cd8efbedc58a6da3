"""Who may read and write an object: `{"*": {"read": true}, "role:NAME": {...}, "<userId>": {...}}`.

None stands for the default, everybody may do everything. Protocol sections 1.5 and 3.3.
"""
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Json, Principals, Rights

PUBLIC: Rights = {"*": {"read": True, "write": True}}
ACTIONS = frozenset(["read", "write"])
MAX_NAMES, MAX_CHARACTERS = 1000, 50_000  # of a client's ACL: every query looks at all of them


def normalise(value: Json) -> Rights | None:
    """A client's ACL, or None for the public default; raise 123 for anything but true and false in read and write."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise StorageError(Code.BAD_ACL, detail="it must be an object")
    for name, rights in value.items():
        if not isinstance(rights, dict) or not rights.keys() <= ACTIONS:
            raise StorageError(Code.BAD_ACL, detail=f"the rights of '{name}' must be read and write")
        if not all(isinstance(right, bool) for right in rights.values()):
            raise StorageError(Code.BAD_ACL, detail=f"the rights of '{name}' must be true or false")
    return None if value == PUBLIC else value


def of_client(value: Json) -> Rights | None:
    """`normalise` for what a client sends: no more names than lists can look at. Imports keep what there was."""
    if isinstance(value, dict) and (len(value) > MAX_NAMES or sum(map(len, value)) > MAX_CHARACTERS):
        raise StorageError(Code.BAD_ACL, detail=f"it has more than {MAX_NAMES} names or {MAX_CHARACTERS} characters")
    return normalise(value)


def allows(acl: Rights | None, action: str, principals: Principals) -> bool:
    """Whether one of `principals` ("*", user id, "role:NAME") may do "read" or "write"; None as principals is master."""
    if acl is None or principals is None:
        return True
    return any(acl.get(name, {}).get(action) is True for name in principals)
