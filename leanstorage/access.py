"""The subcommand check: what should be closed."""
from pathlib import Path

from leanstorage import keys as key_files
from leanstorage.resources import dangers
from leanstorage.rules.call import Options
from leanstorage.store import open_store

LOOK_SECONDS = 600  # that one statement over all objects may take
LEVELS = {1: "anybody takes over", 2: "anybody reads or changes", 3: "a defence is missing"}


def check(database: str, options: Options, data: Path, files_place: str, keys: dict[str, str]) -> int:
    """Print each finding with the command that closes it, the worst first; 1 when there is one of the two worst kinds."""
    key_file = key_files.place(data)
    is_used = key_file.exists() and key_files.load(data) == keys
    private = [path for path in (data, key_file, data / "leanstorage.db", Path(files_place)) if path.exists()]
    store = open_store(database, query_seconds=LOOK_SECONDS)
    try:
        findings = dangers.found(store, options, keys, private, key_file if is_used else None, database)
    finally:
        store.close()
    for number, finding in enumerate(findings, 1):
        print(f"{number}. {LEVELS[finding.level]}: {finding.where}: {finding.what}\n   {finding.command}")
    print(f"{len(findings)} findings")
    return 1 if any(finding.level < 3 for finding in findings) else 0
