"""Which lines of the code each test of a module reaches: python bench/reached.py TESTS FILE, for bench/mutants.py.

FILE gets {test: [seconds, {path: lines}]} of those that passed. What runs before the tests of a class, and in
processes of their own, counts for none of them.
"""
import json
import sys
import time
import unittest
from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


class Reaching(unittest.TextTestResult):
    """Switches the context of `measured` with every test."""

    measured = None
    seconds: dict[str, float] = {}

    def startTest(self, test):
        super().startTest(test)
        self.measured.switch_context(test.id())
        self._began = time.monotonic()

    def addSuccess(self, test):
        self.seconds[test.id()] = time.monotonic() - self._began
        super().addSuccess(test)

    def stopTest(self, test):
        self.measured.switch_context("")
        super().stopTest(test)


def main(name, file):
    measured = Reaching.measured = coverage.Coverage(data_file=None, branch=False, source=[str(ROOT)], config_file=False)
    measured.start()
    suite = unittest.defaultTestLoader.loadTestsFromName(name)
    unittest.TextTestRunner(resultclass=Reaching).run(suite)
    measured.stop()
    data = measured.get_data()
    reached = {test: [seconds, {}] for test, seconds in Reaching.seconds.items()}
    for path in data.measured_files():
        own = str(Path(path).relative_to(ROOT))
        for line, tests in data.contexts_by_lineno(path).items():
            for test in tests:
                if test in reached:
                    reached[test][1].setdefault(own, []).append(line)
    Path(file).write_text(json.dumps(reached))


if __name__ == "__main__":
    main(*sys.argv[1:])
