"""The options of `serve` for those who sign in by phone: what they are, and how a service gets what they name."""
import argparse
from collections.abc import Mapping

from leanstorage.rules.call import Service, SmsSender

LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--sms-command", metavar="COMMAND", help="sends an SMS, which it gets as JSON on its standard input")
    command.add_argument(
        "--sms-url", metavar="URL", help="gets SMS posted as JSON, signed with LEANSTORAGE_SMS_SECRET of the environment"
    )
    for name, what in (("templates", "of texts that apps may send"), ("signs", "that texts may be signed with")):
        command.add_argument(f"--sms-{name}", metavar="NAME,...", default="", help=f"{what} by requestSmsCode (default: none)")
    command.add_argument(
        "--sms-per-address", type=int, metavar="N", default=100, help="codes that an address may ask for a day (default: %(default)s)"
    )
    command.add_argument(
        "--sms-per-day", type=int, metavar="N", default=10_000, help="SMS that are sent a day (default: %(default)s)"
    )


def equip(service: Service, options: argparse.Namespace) -> Service:
    """The service with what the options name. Raises ValueError for what cannot be."""
    service.sms = _sms_sender(options, options.environment)
    return service


def _sms_sender(options: argparse.Namespace, environment: Mapping[str, str]) -> SmsSender | None:
    if options.sms_command and options.sms_url:
        raise ValueError("--sms-command and --sms-url are two ways to send an SMS: it takes one")
    if not options.sms_command and not options.sms_url:
        if options.host not in LOOPBACK_HOSTS or options.public_url:
            return None
        from leanstorage.outside.sms import LocalSender

        return LocalSender()
    from leanstorage.outside.sms import Command, Gateway, Sender

    way: Command | Gateway
    if options.sms_command:
        command = Command(options.sms_command)
        way, close = command, command.close
    else:
        way, close = Gateway(options.sms_url, environment.get("LEANSTORAGE_SMS_SECRET", "")), lambda: None
    return Sender(
        way.deliver,
        _names(options.sms_templates),
        _names(options.sms_signs),
        options.sms_per_address,
        options.sms_per_day,
        close,
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
