"""The four keys of an app: from the environment, else generated once and kept beside the data, mode 0600."""
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from leanwsgi import setting_values

NAMES = {
    "id": "LEANCLOUD_APP_ID",
    "key": "LEANCLOUD_APP_KEY",
    "master_key": "LEANCLOUD_APP_MASTER_KEY",
    "hook_key": "LEANCLOUD_APP_HOOK_KEY",
}


def from_environment(environment: Mapping[str, str]) -> dict[str, str] | None:
    """{name: key} when the environment has them, None when it has none; raise ValueError naming a missing or malformed one."""
    found = {name: environment.get(variable, "").strip() for name, variable in NAMES.items()}
    if not any(found.values()):
        return None
    for name, variable in NAMES.items():
        if not found[name]:
            raise ValueError(f"{variable} is missing: set all of {', '.join(NAMES.values())}, or none")
        try:
            setting_values.key(found[name])
        except ValueError as error:
            raise ValueError(f"{variable} {error}") from None
    return found


def place(data: str | Path) -> Path:
    """Where `load` keeps them."""
    return Path(data) / "keys.json"


def load(data: str | Path) -> dict[str, str]:
    """{name: key} kept in the folder `data`, made on first use. Two processes that start together agree on one set.

    Raises ValueError when the file holds something else.
    """
    path = place(data)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        made = {
            "id": secrets.token_hex(12),
            "key": secrets.token_hex(12),
            "master_key": secrets.token_hex(16),
            "hook_key": secrets.token_hex(16),
        }
        draft = path.with_name(f".keys-{secrets.token_hex(8)}")
        with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump(made, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # fails if another process was first; its file is complete
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    try:
        found: dict[str, str] = json.loads(path.read_text())
        return {name: found[name] for name in NAMES}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} does not hold the four keys {', '.join(NAMES)}: put a copy of it back") from None
