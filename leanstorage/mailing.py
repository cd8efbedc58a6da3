"""The command `outbox`: the messages to users, listed or handed on."""
import argparse
import json
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from leanstorage.resources import mail
from leanstorage.store import Store

SEND_SECONDS = 60  # that a command may take for one e-mail
Opened = Callable[[argparse.Namespace, Path], AbstractContextManager[Store]]


def add_outbox(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", storage: argparse.ArgumentParser, opened: Opened
) -> None:
    """Add the command; `opened(options, data)` is the store for a `with`."""
    command = commands.add_parser(
        "outbox", parents=[storage], help="list the e-mails of the last 30 days, or hand them on"
    )
    command.add_argument("--json", action="store_true", help="print nothing else, not even how many there are")
    command.add_argument(
        "--send", metavar="COMMAND", help="instead hand those on that were not yet, as e-mails on its standard input"
    )
    command.set_defaults(run=lambda options, data, keys: outbox(options, data, opened))


def outbox(options: argparse.Namespace, data: Path, opened: Opened) -> int:
    """Print the messages to users, oldest first, one JSON object a line: they hold secret links. Or hand them on."""

    def deliver(data: bytes) -> bool:
        try:
            return subprocess.run(options.send, shell=True, input=data, timeout=SEND_SECONDS).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    with opened(options, data) as store:
        if options.send:
            sent, failed = mail.hand_on(store, deliver)
            print(f"{sent} sent, {failed} not")
            return 1 if failed else 0
        number = 0
        for number, message in enumerate(mail.outbox(store), 1):
            print(json.dumps(message, ensure_ascii=False))
    if not options.json:
        print(f"{number} messages")
    return 0
