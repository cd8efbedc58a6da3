#!/usr/bin/env python
"""Coverage-guided fuzzing of everything that reads what clients send: python bench/fuzz_atheris.py all|TARGET,... SECONDS.

Needs `pip install atheris`. Each target (see tests/repository/fuzz_targets.py) runs for SECONDS. A finding ends its run with the bytes
in a file `TARGET-crash-...`, to become a test with a name. What reached new code is kept in tests/corpus/TARGET, as the
smallest set of inputs that reaches the same.
"""
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
CORPUS = ROOT / "tests" / "corpus"


def fuzz(arguments):
    """One run of libFuzzer. The target is in the environment because libFuzzer starts this program again to merge."""
    import atheris

    with atheris.instrument_imports(include=["leanstorage", "messages", "router", "multipart"]):
        from leanstorage.http.application import create_application, open_service
        from tests.repository.fuzz_targets import Targets
        from tests.leanstorage.service_support import KEYS
    folder = tempfile.mkdtemp()
    application = create_application(open_service(KEYS, f"sqlite:///{folder}/a.db", f"{folder}/files"))
    function = getattr(Targets(application), os.environ["FUZZ_TARGET"])

    def run_one(data):
        with contextlib.redirect_stderr(io.StringIO()):
            function(data)

    atheris.Setup([str(Path(__file__).resolve()), *arguments], run_one)
    atheris.Fuzz()


def run_all(names, seconds):
    """Fuzz each target, or every one, for so many seconds; return the names of those that failed."""
    from tests.repository.fuzz_targets import SEEDS

    return [name for name in names or SEEDS if not run_target(name, seconds, SEEDS[name])]


def run_target(target, seconds, seeds):
    def run(*arguments):
        environment = {**os.environ, "FUZZ_TARGET": target}
        command = [sys.executable, __file__, *map(str, arguments), "-max_len=400"]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    kept = CORPUS / target
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        found, smallest = Path(work, "found"), Path(work, "smallest")
        found.mkdir()
        smallest.mkdir()
        for number, seed in enumerate(seeds):
            (found / f"seed{number}").write_text(seed)
        done = run(f"-max_total_time={seconds}", "-timeout=20", f"-artifact_prefix={target}-", found, kept)
        run("-merge=1", smallest, kept, found)
        names = [Path(shutil.move(path, kept / path.name)).name for path in smallest.iterdir()]
    for path in kept.iterdir():
        if path.name not in names:
            path.unlink()
    last = [line for line in done.stderr.splitlines() if line.startswith("Done")]
    print(f"{target}: {' '.join(last)}, {len(names)} inputs kept", flush=True)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:])
    return done.returncode == 0


if __name__ == "__main__":
    if "FUZZ_TARGET" in os.environ:
        fuzz(sys.argv[1:])
    else:
        chosen = [] if sys.argv[1] == "all" else sys.argv[1].split(",")
        sys.exit(1 if run_all(chosen, int(sys.argv[2])) else 0)
