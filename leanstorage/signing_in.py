"""The options of `serve` for those who sign in by phone, mail or a third party: what they are, and how a service gets what they name."""
import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from leanstorage.options import whole
from leanstorage.resources import mail, mail_texts
from leanstorage.rules.call import LOOPBACK_HOSTS, Service, SmsSender


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--auth-provider",
        metavar="NAME=KIND[@URL]",
        action="append",
        help="third party to ask at login, may be given several times: weapp, weixin, qqapp, qq, weibo, apple or oidc (default: none is asked)",
    )
    command.add_argument("--sms-command", metavar="COMMAND", help="command that sends an SMS; it gets the message as JSON on its standard input")
    command.add_argument(
        "--sms-url", metavar="URL", help="URL that gets each SMS as JSON by POST, signed with LEANSTORAGE_SMS_SECRET"
    )
    for name, what in (("templates", "templates"), ("signs", "signatures")):
        text = f"{what} that apps may name in requestSmsCode, with commas (default: none)"
        command.add_argument(f"--sms-{name}", metavar="NAME,...", help=text)
    command.add_argument(
        "--sms-per-address", type=whole(1, 10**9), metavar="N", default=100, help="codes that one address may request per day (default: %(default)s)"
    )
    command.add_argument(
        "--smtp", metavar="URL", help="smtps://HOST or smtp://HOST that sends e-mails (default: none; then use outbox --send)"
    )
    command.add_argument("--mail-from", metavar="ADDRESS", help="sender of these e-mails")
    command.add_argument(
        "--mail-texts", metavar="TEXTS", default="en", help="language of these e-mails, en or zh, or a folder with reset.txt and verify.txt (default: %(default)s)"
    )
    command.add_argument(
        "--sms-per-day", type=whole(1, 10**9), metavar="N", default=10_000, help="SMS that are sent per day in all (default: %(default)s)"
    )


def check(options: argparse.Namespace) -> None:
    """Raise ValueError for what the options name and cannot be, before anything is opened."""
    sender = _sms_sender(options, options.environment)
    if sender is not None:
        sender.close()
    mail_texts.load(options.mail_texts)
    _providers(options)
    _smtp(options)


def equip(service: Service, options: argparse.Namespace) -> Service:
    """The service with what the options name. Raises ValueError for what cannot be."""
    service.sms = _sms_sender(options, options.environment)
    if options.mail_texts != "en":
        service.options.mail_texts = mail_texts.load(options.mail_texts)
    found = _providers(options)
    service.providers = {provider.name: provider.ask for provider in found}
    service.asked_platforms = frozenset(provider.platform for provider in found if provider.platform)
    return service


def _providers(options: argparse.Namespace) -> list[Any]:
    """The providers.Provider of each third party that is asked; raise ValueError."""
    if not options.auth_provider:
        return []
    from leanstorage.outside.providers import provider_of

    found = [provider_of(option, options.environment) for option in options.auth_provider]
    if len({provider.name for provider in found}) < len(found):
        raise ValueError("--auth-provider: a name comes twice")
    return found


@contextmanager
def mailing(service: Service, options: argparse.Namespace) -> Iterator[None]:
    """For a `with`: while it lasts, the outbox is sent if there is a mail server to send it to."""
    smtp = _smtp(options)
    if smtp is None:
        yield
        return
    from leanstorage.resources.mailer import Mailer

    mailer = Mailer(service, smtp.connected)
    try:
        yield
    finally:
        mailer.close()


def _smtp(options: argparse.Namespace) -> Any:
    if options.smtp is None:
        if options.mail_from is not None:
            raise ValueError("--mail-from is the sender of what --smtp sends: it needs --smtp")
        return None
    from leanstorage.outside.smtp import Smtp

    get = options.environment.get
    user, password = get("LEANSTORAGE_SMTP_USER", ""), get("LEANSTORAGE_SMTP_PASSWORD", "")
    return Smtp(options.smtp, options.mail_from or "", user, password, mail.Unreachable, mail.Undeliverable)


def _sms_sender(options: argparse.Namespace, environment: Mapping[str, str]) -> SmsSender | None:
    if options.sms_command and options.sms_url:
        raise ValueError("--sms-command and --sms-url are two ways to send an SMS: it takes one")
    if options.sms_command is not None and not options.sms_command.strip():
        raise ValueError("--sms-command must be a command")
    if options.sms_command is None and options.sms_url is None:
        if options.sms_templates is not None or options.sms_signs is not None:
            raise ValueError("--sms-templates and --sms-signs are for what is sent: they need --sms-command or --sms-url")
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
        _names(options.sms_templates, "--sms-templates"),
        _names(options.sms_signs, "--sms-signs"),
        options.sms_per_address,
        options.sms_per_day,
        close,
    )


def _names(text: str | None, option: str) -> list[str]:
    found = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and (not found or not text.isprintable()):
        raise ValueError(f"{option} must be names with commas between them")
    return found
