"""The class that a file's name tells, and which files of a folder are no export at all."""

import re

_CLASS = re.compile(r"_?[A-Za-z][A-Za-z0-9_]*")
_DATE = r"(?:\d{4}-?\d\d-?\d\d|\d{4}年\d\d?月\d\d?日)"
_SECONDS = r"\d{10}(?:\d{3})?"  # or milliseconds since 1970
_TIME = r"(?:[T_ -]?\d\d[-_.:]?\d\d(?:[-_.:]?\d\d)?Z?)?"
_BEFORE = re.compile(rf"^(?:Copy of |(?:{_DATE}{_TIME}|{_SECONDS})[_ -])+")
_BEHIND = re.compile(
    rf"(?:\s*[(（\[](?:\d+|copy|副本)[)）\]]|\s*-\s*(?:Copy|副本)|的?副本| copy|\s+\d*|[ _-](?:{_DATE}{_TIME}|{_SECONDS}))$"
)
_OTHER = (
    "txt md rtf db ini eml msg mbox htm html pdf doc docx xls xlsx ppt pptx png jpg jpeg gif webp svg mp3 mp4 log url lnk"
    " webloc plist sql sqlite sh bat py js ts css yml yaml toml conf exe dmg apk"
).split()
_UNFINISHED = ("part", "partial", "crdownload", "download", "tmp")
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")


def class_of(name: str) -> str:
    """The class of a file: `Post.0.jsonl`, `Post_all.json`, `_User.x1.bson`, `Post (1).json`, `2026-11-28_Post.json`.

    What could be a class as it stands is one, such as `Log_20200101`.
    """
    stem = name.split(".")[0].removesuffix("_all")
    if _CLASS.fullmatch(stem):
        return stem
    stem = without_date(stem)
    while not _CLASS.fullmatch(stem) and (found := _BEHIND.search(stem)):
        stem = stem[: found.start()]
    return stem.removesuffix("_all")


def without_date(name: str) -> str:
    return _BEFORE.sub("", name)


def is_like_a_class(name: str) -> bool:
    """Whether a name is that of a class by its form, though it may be none that can be held; those of joins are none."""
    return bool(_CLASS.fullmatch(name)) and not name.startswith("_Join")


def is_other(name: str) -> bool:
    """Whether a name is that of what lies beside an export: notes, mails, pictures, what Windows leaves."""
    return _ending(name) in _OTHER or name.startswith("~$")


def is_unfinished(name: str) -> bool:
    """Whether it is a download that did not end."""
    return _ending(name) in _UNFINISHED


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""
