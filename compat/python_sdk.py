"""`python -m compat.python_sdk PATH [MODULE...]`: the Python SDK's own suite against this server.

PATH is a checkout of the SDK's repository at its last release. The suite was written for nose, which does not run on
the Pythons of today: the few helpers that it uses are stood in for here. Prints a line for every test that fails and
the totals; exit code 0 when nothing failed but what needs push, messaging, SMS or captcha.
"""
import importlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import unittest
from contextlib import ExitStack
from pathlib import Path

from compat.server import serving, serving_functions

MODULES = (
    "test_acl test_client test_geo_point test_op test_util test_object test_query test_relation test_role test_user "
    "test_file test_status test_middlewares test_engine"
).split()
# What this server does not do: tests whose failure is expected, by name.
UNSUPPORTED = re.compile(r"sms|captcha|push|message|conversation|rtm|mobile_phone_verify|change_phone_number|app_router")


def stand_in_for_nose():
    """Modules `nose` and `nose.tools` with unittest's assertions under nose's names."""
    case = unittest.TestCase()
    tools = types.ModuleType("nose.tools")
    for name in dir(case):
        if name.startswith("assert"):
            spelt = re.sub(r"([A-Z])", lambda found: "_" + found.group(1).lower(), name)
            setattr(tools, spelt, getattr(case, name))
    tools.eq_ = case.assertEqual
    tools.ok_ = lambda value, message=None: case.assertTrue(value, message)
    tools.assert_equals = case.assertEqual
    tools.raises = lambda *errors: lambda function: lambda: _raises(case, errors, function)

    def with_setup(setup=None, teardown=None):
        def decorate(function):
            function.setup = [setup] + getattr(function, "setup", []) if setup else getattr(function, "setup", [])
            function.teardown = getattr(function, "teardown", []) + ([teardown] if teardown else [])
            return function

        return decorate

    tools.with_setup = with_setup
    nose = types.ModuleType("nose")
    nose.tools = tools
    nose.with_setup = with_setup
    nose.SkipTest = unittest.SkipTest
    sys.modules.update({"nose": nose, "nose.tools": tools})


def _raises(case, errors, function):
    with case.assertRaises(errors):
        function()


def run_module(name, report):
    """Run every test of a module, in the order in which they stand there."""
    module = importlib.import_module(f"tests.{name}")
    functions = [item for key, item in vars(module).items() if key.startswith("test_") and callable(item)]
    functions.sort(key=lambda function: getattr(getattr(function, "__code__", None), "co_firstlineno", 0))
    for before in ("setup_module", "setup", "setUp"):
        if hasattr(module, before):
            getattr(module, before)()
            break
    for function in functions:
        run_one(f"{name}.{function.__name__}", function, report)
    for key, item in vars(module).items():
        if isinstance(item, type) and issubclass(item, unittest.TestCase):
            for test in unittest.defaultTestLoader.loadTestsFromTestCase(item):
                run_one(f"{name}.{test._testMethodName}", lambda test=test: test.debug(), report)


def run_one(name, function, report):
    try:
        for setup in getattr(function, "setup", []):
            setup()
        function()
        report(name, None)
    except unittest.SkipTest as error:
        report(name, f"skipped: {error}")
    except Exception:
        report(name, traceback.format_exc())
    finally:
        for teardown in getattr(function, "teardown", []):
            try:
                teardown()
            except Exception:
                report(name + " (teardown)", traceback.format_exc())


def create_classes(path, keys):
    """The suite expects an app whose classes exist: store and delete an object of each."""
    import requests

    source = "".join(file.read_text() for file in Path(path, "tests").glob("test_*.py"))
    names = set(re.findall(r"class (\w+)\(Object\)", source)) | set(re.findall(r"extend\(\"(\w+)\"\)", source))
    headers = {"X-LC-Id": keys["LEANCLOUD_APP_ID"], "X-LC-Key": keys["LEANCLOUD_APP_MASTER_KEY"] + ",master"}
    for name in names:
        url = f"{keys['LEANCLOUD_API_SERVER']}/1.1/classes/{name}"
        made = requests.post(url, json={}, headers=headers, timeout=10).json()
        requests.delete(f"{url}/{made['objectId']}", headers=headers, timeout=10)


def serve_pictures():
    """The suite downloads a picture from a public host: a server of our own stands in for every other host."""
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from urllib3.util import connection

    class Pictures(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"\x89PNG")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connect = connection.create_connection

    def connect_here(address, *arguments, **options):
        if address[0] not in ("127.0.0.1", "localhost"):
            address = ("127.0.0.1", server.server_port)
        return connect(address, *arguments, **options)

    connection.create_connection = connect_here


def run_suite_module(path, name):
    """One module in this process, which has the keys in its environment; prints what failed and a line of totals."""
    sys.path.insert(0, str(Path(path).resolve()))
    for key in [key for key in sys.modules if key == "tests" or key.startswith("tests.")]:
        del sys.modules[key]
    stand_in_for_nose()
    serve_pictures()
    os.chdir(path)
    counts = {"passed": 0, "failed": 0, "unsupported": 0}

    def report(test, problem):
        if problem is None:
            counts["passed"] += 1
        elif UNSUPPORTED.search(test.split(".")[1]):
            counts["unsupported"] += 1
            print(f"-- {test} needs what is not supported")
        else:
            counts["failed"] += 1
            print(f"-- {test}\n{problem}")

    try:
        run_module(name, report)
    except Exception:
        report(f"{name}.import", traceback.format_exc())
    time.sleep(0.5)  # for the threads that call back after a file was saved
    print("totals", *counts.values(), flush=True)
    os._exit(0)


def main(path, names):
    root = Path(__file__).resolve().parents[1]
    totals, names_seen = [0, 0, 0], []
    with ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory())
        engine = stack.enter_context(serving_functions({"add": lambda body, _: body.get("a", 0) + body.get("b", 0)}))
        keys, _ = stack.enter_context(serving(root, data, "--engine", engine))
        create_classes(path, keys)
        environment = {
            **os.environ,
            **keys,
            "APP_ID": keys["LEANCLOUD_APP_ID"],
            "APP_KEY": keys["LEANCLOUD_APP_KEY"],
            "MASTER_KEY": keys["LEANCLOUD_APP_MASTER_KEY"],
            "HOOK_KEY": keys["LEANCLOUD_APP_HOOK_KEY"],
        }
        # One test needs what it stores itself afterwards: the suite was always run on the data of its last run.
        for name in ["test_query", *(names or MODULES)] if not names or "test_query" in names else names:
            command = [sys.executable, "-W", "ignore", "-m", "compat.python_sdk", "--one", path, name]
            done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
            lines = done.stdout.splitlines()
            found = lines.pop().split() if lines else []
            if found[:1] != ["totals"]:
                found, lines = ["totals", 0, 1, 0], lines + [done.stderr]
            if name == "test_query" and not names_seen:
                names_seen.append(name)
                continue
            print(*lines, f"{name}: {found[1]} passed, {found[2]} failed, {found[3]} not supported", sep="\n", flush=True)
            totals = [total + int(count) for total, count in zip(totals, found[1:])]
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} not supported")
    return 1 if totals[1] or not totals[0] else 0


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        run_suite_module(sys.argv[2], sys.argv[3])
    sys.exit(main(sys.argv[1], sys.argv[2:]))
