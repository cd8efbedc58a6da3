"""What an operator should close: a look at a database, at the settings it is served with, and at who may read them.

A finding is (level, where, what, command): level 1 lets anybody take something over, 2 lets anybody read or change what is
others', 3 is a defence that is missing. The command closes it. Nothing here changes anything.
"""
import os
import shlex
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from leanstorage.rules import acl, classes, phones, values
from leanstorage.rules.call import LOOPBACK_HOSTS, Options
from leanstorage.store import Document, Row, Store, Transaction

KEY_CHARACTERS = 16  # that a key needs at least
KEY_DAYS = 365  # after which keys should be others
PAGE = 1000  # rows
SHOWN = 3  # names, where there may be many
# ACLs that let everybody write, in their canonical text.
OPEN = ['%"*":{"write":true}%', '%"*":{"read":true,"write":true}%', '%"*":{"read":false,"write":true}%']
PERMISSIONS = "python -m leanstorage permissions"
# System classes: what is open, in which actions, how bad that is, and what closes it.
SYSTEM = (
    ("_User", ("find",), 2, "anybody may list all users, with their e-mail addresses and phone numbers", "--find nobody"),
    ("_User", ("get",), 3, "anybody who knows a user's id reads its e-mail address and phone number", "--get users"),
    ("_Installation", ("find", "get"), 2, "anybody may read all devices, with the tokens that push messages need", "--find nobody --get nobody"),
    ("_Installation", ("delete",), 3, "anybody who knows its id may remove a device", "--delete users"),
    ("_Conversation", ("find", "get"), 2, "anybody may read all conversations and who takes part", "--find nobody --get nobody"),
    (
        "_Conversation",
        ("create", "update", "delete"),
        2,
        "anybody may change conversations, or take part in them",
        "--create nobody --update nobody --delete nobody",
    ),
    ("_Status", ("create",), 3, "any user may send statuses to any other; role:NAMEs may instead of nobody", "--create nobody"),
    ("_File", ("delete",), 3, "anybody who knows its id may delete a file that has no ACL", "--delete users"),
    ("_Follower", ("delete",), 3, "anybody who knows its id may delete a link between users that has no ACL", "--delete users"),
    ("_Followee", ("delete",), 3, "anybody who knows its id may delete a link between users that has no ACL", "--delete users"),
)


class Finding(NamedTuple):
    level: int
    where: str
    what: str
    command: str


def found(
    store: Store, options: Options, keys: Document, private: Iterable[Path], key_file: Path | None, database: str
) -> list[Finding]:
    """The findings, the worst first. `private` are files and folders that only their owner should read."""
    in_database = store.read(lambda transaction: [*_of_classes(transaction), *_of_roles(transaction), *_of_statuses(transaction), *_of_phones(transaction)])
    others = [*_of_keys(keys, key_file), *_of_places(private), *_of_settings(options), *_of_database(database)]
    return sorted([*others, *in_database], key=lambda finding: finding.level)


def _of_keys(keys: Document, key_file: Path | None) -> Iterator[Finding]:
    for name in ("key", "master_key", "hook_key"):
        if keys and len(keys[name]) < KEY_CHARACTERS:
            yield Finding(1, "keys", f"the {name} has fewer than {KEY_CHARACTERS} characters: it can be guessed", "choose another")
    for name in ("master_key", "hook_key"):
        if keys and keys[name] == keys["key"]:
            yield Finding(1, "keys", f"the {name} is the app key, which every front end ships", "choose another")
    if key_file is not None and key_file.exists() and time.time() - key_file.stat().st_mtime > KEY_DAYS * 24 * 3600:
        yield Finding(
            3,
            "keys",
            f"they are older than {KEY_DAYS} days, and who once had the master key has it still",
            f"stop, move {key_file} away, start: new keys; all log in anew, all apps need them",
        )


def _of_places(private: Iterable[Path]) -> Iterator[Finding]:
    for path in private:
        try:
            mode = stat.S_IMODE(os.stat(path).st_mode)
        except OSError:
            continue
        if mode & 0o022:
            yield Finding(1, str(path), "other users of this machine may write to it", f"chmod go-rwx {shlex.quote(str(path))}")
        elif mode & 0o044:
            yield Finding(2, str(path), "other users of this machine may read it", f"chmod go-rwx {shlex.quote(str(path))}")


def _of_settings(options: Options) -> Iterator[Finding]:
    trusted = options.trusted_providers - {"anonymous"}
    if "*" in trusted:
        yield Finding(1, "serve", "--trust-auth '*' lets anybody log in as any user of a third party that is not asked", "leave --trust-auth out")
    elif trusted:
        names = ", ".join(sorted(trusted))
        what = f"anybody who knows a user's id at {names} may log in as that user: nobody is asked"
        yield Finding(2, "serve", what, "check them in onAuthData, and leave --trust-auth out")
    if options.role_create == "client":
        yield Finding(3, "serve", "anybody may create roles, also with names that come to be used later", "serve --role-create master")
    if options.class_create == "client":
        yield Finding(3, "serve", "anybody may create classes", "serve --class-create master")
    if options.max_requests_per_minute <= 0:
        yield Finding(3, "serve", "no address is limited", "leave --max-requests 0 out")
    if options.max_bytes_per_address <= 0:
        yield Finding(3, "serve", "one address may fill the disk", "leave --max-bytes-per-address 0 out")
    if "*" in options.trusted_proxy:
        what = "X-Real-IP of anybody is believed: each request may claim another address, and no limit holds"
        yield Finding(3, "serve", what, "serve --trusted-proxy ADDRESS of the proxy")
    if options.sign_max_age_s is None:
        yield Finding(3, "serve", "a signature that was overheard is good for ever", "serve --sign-max-age 300")
    if options.files_url is None:
        yield Finding(3, "serve", "files that users upload have the origin of the API", "serve --files-url https://files.example.com")


def _of_database(database: str) -> Iterator[Finding]:
    parts = urlsplit(database)
    if not parts.scheme.startswith("postgres"):
        return
    host, mode = parts.hostname or "", parse_qs(parts.query).get("sslmode", [""])[0]
    if host not in ("", *LOOPBACK_HOSTS) and mode not in ("require", "verify-ca", "verify-full"):
        yield Finding(2, "database", "who listens between here and the database reads all of it", "add ?sslmode=verify-full to its URL")


def _of_classes(transaction: Transaction) -> Iterator[Finding]:
    names, numbers = transaction.class_names(), transaction.open_objects(OPEN)
    for name, actions, level, what, command in SYSTEM:
        rules = classes.existing(transaction, name)["permissions"]
        if (name in names or name == "_User") and any(rules.get(action) is None for action in actions):
            yield Finding(level, name, what, f"{PERMISSIONS} {name} {command}")
    for name in sorted(set(names) - values.SYSTEM_CLASSES):
        rules = classes.existing(transaction, name)["permissions"]
        opened = [action for action in ("update", "delete") if rules.get(action) is None]
        number = numbers.get(name, 0)
        if opened and number:
            closing = " ".join(f"--{action} users" for action in opened)
            what = f"anybody may {' and '.join(opened)} {number} objects, which have no ACL or one that is open"
            yield Finding(2, name, what, f"{PERMISSIONS} {name} {closing}")
        if rules.get("create") is None:
            yield Finding(3, name, "anybody may create objects, without logging in", f"{PERMISSIONS} {name} --create users")
        if rules.get("add_fields") is None:
            yield Finding(3, name, "anybody may add columns", f"{PERMISSIONS} {name} --add-fields nobody")


def _of_roles(transaction: Transaction) -> Iterator[Finding]:
    rule = classes.existing(transaction, "_Role")["permissions"].get("update")
    if rule is not None and not rule["users"]:  # whoever may sign up is a user
        return
    names = [str(row.body.get("name")) for row in _rows(transaction, "_Role") if acl.allows(row.acl, "write", ("*",))]
    if names:
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        what = f"anybody may join {len(names)} roles ({shown}), and has what they may"
        yield Finding(1, "_Role", what, f"{PERMISSIONS} _Role --update nobody --delete nobody")


def _of_statuses(transaction: Transaction) -> Iterator[Finding]:
    """Rows of `_Status` that did not come by sending one: then its sender may write to it."""
    forged = 0
    for row in _rows(transaction, "_Status"):
        source = row.body.get("source")
        sender = source.get("objectId") if isinstance(source, dict) else None
        forged += (row.acl or {}).get(str(sender), {}).get("write") is not True
    if forged:
        what = f"{forged} statuses were not sent by the user whose name they bear"
        yield Finding(2, "_Status", what, f"{PERMISSIONS} _Status --create users, and delete those rows with the master key")


def _of_phones(transaction: Transaction) -> Iterator[Finding]:
    """Users with a password and a number that nobody proved: `usersByMobilePhone` lets in who proves it, as on LeanCloud."""
    unproven, ids = 0, list[str]()
    for row in _rows(transaction, "_User"):
        if row.body.get(phones.FIELD) and not row.body.get("mobilePhoneVerified"):
            ids.append(row.id)
        if len(ids) == PAGE:
            unproven, ids = unproven + _with_password(transaction, ids), []
    unproven += _with_password(transaction, ids)
    if unproven:
        what = (
            f"{unproven} users never proved their phone number: who proves it logs in to such an account by usersByMobilePhone, "
            "though who made it may be somebody else and knows its password"
        )
        yield Finding(3, "_User", what, "have them verified (requestMobilePhoneVerify), or serve without SMS")


def _with_password(transaction: Transaction, ids: list[str]) -> int:
    return sum("password" in credential for credential in transaction.records_of("credential", ids).values()) if ids else 0


def _rows(transaction: Transaction, class_name: str) -> Iterator[Row]:
    after = (0, 0)
    while rows := transaction.page(class_name, after, PAGE):
        yield from rows
        after = (rows[-1].created, rows[-1].seq)
