"""Counts wrong passwords per account, and wrong passwords and codes per address. After too many, none is checked
for a while. Protocol section 5.4.
"""
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Transaction, now

LOCK_MS = 15 * 60 * 1000
MAX_FAILURES = 6  # wrong passwords before the account is locked
MAX_PASSWORD = 1024  # characters; hashing longer ones would only cost


def refuse_locked(transaction: Transaction, user_id: str) -> None:
    """Raise 219 while the account is locked."""
    failures = transaction.record("failures", user_id)
    if failures and failures["count"] > MAX_FAILURES:
        raise StorageError(Code.LOCKED)


def count_failure(transaction: Transaction, user_id: str) -> None:
    """Count one more wrong password."""
    failures = transaction.record("failures", user_id, lock=True) or {"count": 0}
    transaction.put_record("failures", user_id, {"count": failures["count"] + 1}, now() + LOCK_MS)


def refuse_address(transaction: Transaction, block: str, limit: int) -> None:
    """Raise 429 while an address has failed too often, whoever it tried to be."""
    failures = transaction.record("address", block)
    if failures and failures["count"] >= limit:
        raise StorageError(Code.TOO_MANY_REQUESTS, headers=[("Retry-After", str(LOCK_MS // 1000))])


def count_address(transaction: Transaction, block: str) -> None:
    """Count one more failure of an address."""
    failures = transaction.record("address", block, lock=True) or {"count": 0}
    transaction.put_record("address", block, {"count": failures["count"] + 1}, now() + LOCK_MS)
