"""Log-in with a password: which user, whether the password is right, and how many wrong ones are checked. Protocol section 5.4."""
from leanwsgi.leancloud_wire import USER_HOOKS
from leanstorage.engine import hooks
from leanstorage.resources import names, users
from leanstorage.rules import attempts, passwords
from leanstorage.rules.call import Answer, Call, Service, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Transaction


def login(call: Call) -> Answer:
    """POST /login: the whole user and its session token.

    Raises 201, 210, 211, 215, 216, 219, 429 and, from onLogin, 142.
    """
    body = call.json_body()
    if "smsCode" in body:
        if not call.has_sms:
            raise StorageError(Code.BAD_SMS_CODE, feature="SMS login")
        from leanstorage.resources import sms  # only where a sender is configured

        return sms.login(call)
    # A whole user may be sent, so the first identity that is there decides, in this order.
    field = next((name for name in names.UNIQUE if isinstance(body.get(name), str) and body[name]), None)
    if field is None:
        raise StorageError(Code.NO_USERNAME)
    password = body.get("password")
    if not isinstance(password, str) or not password:
        raise StorageError(Code.NO_PASSWORD)
    user_id = check_password(call, field, body[field], password)
    return let_in(call, user_id)


def let_in(call: Call, user_id: str) -> Answer:
    """Log somebody in who has shown to be this user. Raises 211, 215, 216 and, from onLogin, 142."""
    user = call.service.store.read(lambda transaction: users.hook_user(transaction, call, user_id))
    _check_verified(call.service, user)
    hooks.user_hook(
        call, USER_HOOKS["onLogin"], "/1.1/functions/_User/onLogin", {"object": user}, Code.LOGIN_REFUSED
    )
    return ok(call.service.store.write(lambda transaction: users.whole_user(transaction, call, user_id)))


def check_password(call: Call, field: str, identity: str, password: str) -> str:
    """The id of the user with this identity and password; failures are counted. Raises 210, 211, 219, 429."""
    service = call.service
    limited = not call.caller.has_hook_key and bool(call.caller.address)

    def look(transaction: Transaction) -> tuple[str | None, Document | None]:
        user_id = names.owner(transaction, field, identity)
        if limited:
            attempts.refuse_address(transaction, call.caller.block, service.options.max_logins_per_address)
        return user_id, transaction.record("credential", user_id) if user_id else None

    user_id, credential = service.store.read(look)
    if user_id:
        service.store.read(lambda transaction: attempts.refuse_locked(transaction, user_id))
    record = (credential or {}).get("password") if user_id else None
    with service.hashing:
        # An unknown user takes as long as a wrong password.
        is_right = len(password) <= attempts.MAX_PASSWORD and passwords.verify(record, password)
        is_upgrade = is_right and record is not None and record["scheme"] != "scrypt"
        upgraded = passwords.hash_password(password) if is_upgrade else None

    def count(transaction: Transaction) -> Code | None:
        if limited and not is_right:
            attempts.count_address(transaction, call.caller.block)
        if user_id is None:
            return Code.NO_USER
        # Concurrent guesses may all have passed the check above; under the lock they are counted one by one.
        attempts.refuse_locked(transaction, user_id)
        if not is_right:
            attempts.count_failure(transaction, user_id)
            return Code.WRONG_PASSWORD
        transaction.delete_record("failures", user_id)
        if upgraded:
            current = transaction.record("credential", user_id, lock=True)
            if current and current.get("password") == record:
                transaction.put_record("credential", user_id, {**current, "password": upgraded})
        return None

    if user_id and is_right and not upgraded:
        # The common case: nothing to write unless there were failures before.
        clean = service.store.read(lambda transaction: transaction.record("failures", user_id) is None)
        if clean:
            return user_id
    refusal = service.store.write(count)
    if refusal or user_id is None:
        raise StorageError(refusal or Code.NO_USER)
    return user_id


def _check_verified(service: Service, user: Document) -> None:
    """Raise 216 or 215 for a user whose address or number has to be verified first, by an option, and is not."""
    options = service.options
    if options.login_needs_verified_email and user.get("email") and not user.get("emailVerified"):
        raise StorageError(Code.EMAIL_UNVERIFIED)
    if options.login_needs_verified_phone and user.get("mobilePhoneNumber") and not user.get("mobilePhoneVerified"):
        raise StorageError(Code.PHONE_UNVERIFIED)
