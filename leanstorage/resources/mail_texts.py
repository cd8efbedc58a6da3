"""The texts of e-mails: English, Chinese, or a folder of the operator's."""
from collections.abc import Mapping
from pathlib import Path

Texts = Mapping[str, tuple[str, str]]  # kind -> (subject, text with {link})
MAX_TEXT = 20_000  # characters
ENGLISH: Texts = {
    "reset": ("Reset your password", "Reset your password: {link}"),
    "verify": ("Verify your email address", "Verify your email address: {link}"),
}
CHINESE: Texts = {
    "reset": ("重置密码", "您申请了重置密码。请在 24 小时内打开以下链接：\n\n{link}\n\n如果这不是您的操作，请忽略本邮件。"),
    "verify": ("验证邮箱", "请在 7 天内打开以下链接，验证您的邮箱：\n\n{link}\n\n如果这不是您的操作，请忽略本邮件。"),
}


def load(place: str) -> Texts:
    """The texts of `en`, `zh` or a folder with reset.txt and verify.txt; raise ValueError for what cannot be sent.

    The first line of a file is the subject, the rest the text; `{link}` stands for the link.
    """
    if not place.strip() or not place.isprintable():
        raise ValueError("--mail-texts must be en, zh or a folder")
    built_in = {"en": ENGLISH, "zh": CHINESE}.get(place)
    return built_in or {kind: _read(Path(place) / f"{kind}.txt") for kind in ENGLISH}


def _read(file: Path) -> tuple[str, str]:
    try:
        subject, _, text = file.read_text("utf-8").lstrip("\ufeff").partition("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--mail-texts: {file} cannot be read: {type(error).__name__}") from None
    subject, text = subject.strip(), text.strip()
    if not subject or not subject.isprintable() or "{link}" not in text or len(text) > MAX_TEXT:
        raise ValueError(f"--mail-texts: {file} needs a subject as its first line, and {{link}} in its text")
    return subject, text
