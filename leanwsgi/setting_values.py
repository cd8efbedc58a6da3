"""Settings that both services read from text: a bad value raises ValueError that says what it must be.

The message never repeats the value: a URL may hold a password or a token.
"""
import re
import shlex
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

URL = re.compile(r"https?://([^/?#@\s]+@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?(/[^?#\s]*)?(\?[^#\s]*)?", re.ASCII)
HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?|\[[0-9a-f:.]{2,45}\]", re.ASCII)
VARIABLE = re.compile(r"([A-Z_][A-Za-z0-9_]*)=(.*)", re.ASCII)
KEY = re.compile(r"[!-+\--~]+", re.ASCII)  # printable, without a space and without a comma, which ends a key on the wire


def web_url(text: str, has_query: bool = False, has_user: bool = False) -> str:
    """A URL of http or https without the slashes at its end; a query or `user:password@` only where that makes sense."""
    found = URL.fullmatch(text)
    if found is None or (found[3] and not 0 < int(found[3][1:]) < 1 << 16) or not text.isprintable():
        raise ValueError("must be a URL that begins with http:// or https://, such as http://localhost:3000")
    if found[5] and not has_query:
        raise ValueError("must be a URL without a ?")
    if found[1] and not has_user:
        raise ValueError("must be a URL without a user name and password")
    return text if found[5] else text.rstrip("/")


def address_or_name(text: str) -> str:
    """An IP address, or the name of a host."""
    try:
        return str(ip_address(text))
    except ValueError:
        if not HOST_NAME.fullmatch(text.lower()) or text.startswith("["):
            raise ValueError(text) from None  # callers say what they want
    return text


def names(text: str) -> list[str]:
    """The parts of a list with commas; raise ValueError for commas with nothing between them, which would be no list."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if text.strip() and not found:
        raise ValueError("must have something between its commas")
    return found


def folder(text: str) -> Path:
    """A folder, which may not be there yet."""
    if not text.isprintable() or "://" in text:
        raise ValueError("must be a folder")
    return Path(text)


def addresses(text: str) -> frozenset[str]:
    """IP addresses with commas, or `*` for all, as they are compared with those of visitors."""
    try:
        return frozenset(part if part == "*" else str(ip_address(part)) for part in names(text))
    except ValueError:
        raise ValueError("must be IP addresses with commas between them, or *") from None


def host_names(text: str) -> frozenset[str]:
    """Host names with commas, in lower case, each with its port if it has one."""
    found = [name.lower() for name in names(text)]
    for name in found:
        host, port = re.fullmatch(r"(.*?)(:[0-9]{1,5})?", name, re.DOTALL).groups()  # type: ignore[union-attr]  # always matches
        if not HOST_NAME.fullmatch(host) or (port and not 0 < int(port[1:]) < 1 << 16):
            raise ValueError("must be host names with commas between them, such as example.com,www.example.com")
    return frozenset(found)


def key(text: str) -> str:
    """A key of an app."""
    if not KEY.fullmatch(text):
        raise ValueError("must be a key: printable ASCII without spaces and commas")
    return text


def with_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, and what `keys.env` in CREDENTIALS_DIRECTORY adds to it, which systemd hands to a service.

    Its lines are NAME=VALUE, quoted as for a shell. So no unit holds a secret, which `systemctl show` would print.
    """
    folder = environment.get("CREDENTIALS_DIRECTORY", "")
    file = Path(folder, "keys.env")
    if not folder or not file.exists():
        return dict(environment)
    found = {}
    for number, line in enumerate(file.read_bytes().decode("utf-8", "replace").splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
            if words:
                [word] = words
                name, value = VARIABLE.fullmatch(word).groups()  # type: ignore[union-attr]  # AttributeError: no match
                found[name] = value
        except (ValueError, AttributeError):
            raise ValueError(f"line {number} of {file} must be NAME=VALUE") from None
    return {**found, **environment}
