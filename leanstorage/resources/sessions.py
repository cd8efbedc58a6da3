"""Session tokens: one per user, the same at every login, dead as soon as it is replaced. Protocol section 5.3.

Records: `credential` by user id (`password`: a record of `passwords`, `token`: a sealed token), `session` by the keyed
hash of the token (`user`: an id).
"""

from leanstorage.rules import passwords
from leanstorage.rules.call import Service
from leanstorage.store import Document, Json, Transaction


def user_of(transaction: Transaction, service: Service, token: Json) -> str | None:
    """The id of the user whose session this is, or None."""
    if not isinstance(token, str) or not token or len(token) > 200:
        return None
    found = transaction.record("session", passwords.token_lookup(service.token_secret, token))
    return found["user"] if found else None


def current(transaction: Transaction, service: Service, user_id: str) -> str:
    """The user's token, made when there is none yet."""
    credential = transaction.record("credential", user_id) or {}
    if credential.get("token"):
        return passwords.open_token(service.token_secret, credential["token"])
    return replace(transaction, service, user_id)


def replace(transaction: Transaction, service: Service, user_id: str, token: str | None = None) -> str:
    """Give the user a new token (or `token`, an imported one) and end the old one; return it."""
    credential = transaction.record("credential", user_id, lock=True) or {}
    drop(transaction, service, credential)
    token = token or passwords.new_token()
    sealed = passwords.seal_token(service.token_secret, token)
    transaction.put_record("credential", user_id, {**credential, "token": sealed})
    transaction.put_record("session", passwords.token_lookup(service.token_secret, token), {"user": user_id})
    return token


def drop(transaction: Transaction, service: Service, credential: Document) -> None:
    """End the session of a credential record."""
    if credential.get("token"):
        token = passwords.open_token(service.token_secret, credential["token"])
        transaction.delete_record("session", passwords.token_lookup(service.token_secret, token))


def forget(transaction: Transaction, service: Service, user_id: str) -> None:
    """Drop everything that lets a user in: what a deleted user leaves behind."""
    drop(transaction, service, transaction.record("credential", user_id) or {})
    transaction.delete_record("credential", user_id)
    transaction.delete_record("failures", user_id)
