"""Names that only one user may have: username, e-mail address, phone number. Who has them, how they are claimed and released.

Records: `unique:_User:FIELD` by the value (`id`: the user's), `claimed` by a phone for a moment. A phone number is found however it is written.
"""
from leanstorage.resources.third_parties import unique_key
from leanstorage.rules import phones
from leanstorage.rules.errors import Code
from leanstorage.store import now, Transaction

CLAIM_MS = 60 * 1000  # longer than any transaction
UNIQUE = {
    "username": Code.USERNAME_TAKEN,
    "email": Code.EMAIL_TAKEN,
    "mobilePhoneNumber": Code.PHONE_TAKEN,
}


def owner(transaction: Transaction, field: str, value: str) -> str | None:
    """The id of the user who has this name, or None. An import may bring two users with one phone: then the one with this spelling."""
    for spelling in _spellings(field, value):
        found = transaction.record(_kind(field), unique_key(spelling))
        if found is not None:
            user_id: str = found["id"]
            return user_id
    return None


def claim(transaction: Transaction, field: str, value: str, user_id: str) -> bool:
    """Take a name for a user; return whether it was free, or the user's own in another spelling."""
    spelling, *others = _spellings(field, value)
    if others:  # concurrent claims of one phone in two spellings wait for each other here
        transaction.put_record("claimed", phones.international(spelling), {"id": user_id}, now() + CLAIM_MS)
    for other in others:
        found = transaction.record(_kind(field), unique_key(other), lock=True)
        if found is not None and found["id"] != user_id:
            return False
    return transaction.add_record(_kind(field), unique_key(spelling), {"id": user_id})


def release(transaction: Transaction, field: str, value: str) -> None:
    transaction.delete_record(_kind(field), unique_key(_spellings(field, value)[0]))


def _kind(field: str) -> str:
    return f"unique:_User:{field}"


def _spellings(field: str, value: str) -> tuple[str, ...]:
    return phones.spellings(phones.compact(value)) if field == phones.FIELD else (value,)
