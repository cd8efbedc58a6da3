"""Settings that the console has and no API shows, as a checklist with the commands that set them here."""

from collections.abc import Callable

from leanstorage.store import open_store

MAX_SHOWN = 30  # classes
PROGRAM = "python -m leanstorage"
OWN = (
    ("class permissions", "for each class: {program} permissions CLASS --create users --delete nobody"),
    ("default ACLs of classes", "{program} permissions CLASS --default-acl everyone=r,owner=rw"),
    ("default values and required columns", "{program} columns CLASS --default KEY=JSON --required KEY"),
    ("columns that clients do not see", "{program} columns CLASS --hide KEY"),
    ("indexes", "{program} index CLASS KEY, where queries are slow"),
    ("unique indexes", "{program} index CLASS KEY --unique"),
    ("only verified users may log in", "{program} serve --verify-emails --login-needs-verified-email"),
    ("secrets of third-party logins", "copy them; {program} serve --trust-auth PROVIDER, or check them in your app"),
    ("environment variables of the engine", "copy them into the environment of your app; {program} env prints its own"),
    ("scheduled functions", "a line of a crontab for each, see docs/leaving-leancloud.md"),
)
ELSEWHERE = (
    "templates of mails and SMS, signatures",
    "the history of instant messages, push records, leaderboards, user feedback",
    "LeanDB and LeanCache: dump them with their own tools",
    "domains that are bound to the API and to files, and their DNS records",
)


def tell(database: str, say: Callable[[str], object]) -> None:
    """Print what has to be copied from the console by hand."""
    store = open_store(database)
    try:
        names = store.read(lambda transaction: transaction.class_names())
    finally:
        store.close()
    own = [name for name in names if not name.startswith("_")]
    say("")
    say("No API shows the following. Copy it from the console before the app is destroyed:")
    for what, how in OWN:
        say(f"[ ] {what}: {how.format(program=PROGRAM)}")
    for what in ELSEWHERE:
        say(f"[ ] {what}")
    if own:
        say(f"classes: {', '.join(own[:MAX_SHOWN])}{', ...' if len(own) > MAX_SHOWN else ''}")
    say('Do not press "stop service" in the console before you have compared everything here.')
