"""What a log of unittest adds to CI's totals: `unittest_totals.py LOG` prints "PASSED FAILED SKIPPED"."""
import re
import sys
from pathlib import Path


def totals(log: str) -> tuple[int, int, int]:
    """Passed, failed, skipped, by the last run in the log; a log without a test, or cut off before its end, is one failure."""
    ran = re.findall(r"^Ran (\d+) tests?", log, re.M)
    result = re.findall(r"^(?:OK|FAILED)\b.*", log, re.M)
    if not ran or int(ran[-1]) == 0 or not result:
        return 0, 1, 0
    numbers = {name.strip(): int(number) for name, number in re.findall(r"([a-z ]+)=(\d+)", result[-1])}
    failed = numbers.get("failures", 0) + numbers.get("errors", 0) + numbers.get("unexpected successes", 0)
    skipped = numbers.get("skipped", 0)
    if result[-1].startswith("FAILED"):
        failed = max(failed, 1)
    return max(int(ran[-1]) - failed - skipped, 0), failed, skipped


if __name__ == "__main__":
    print(*totals(Path(sys.argv[1]).read_text("utf-8", errors="replace")))
