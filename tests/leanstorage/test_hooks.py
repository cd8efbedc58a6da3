"""Hooks and cloud functions: section 7 of the protocol, against an engine of raw HTTP shape and the SDK's own."""
import http.server
import io
import json
import threading
import time
import unittest
from contextlib import redirect_stderr
from unittest import mock
from wsgiref.simple_server import WSGIRequestHandler, make_server

from leanstorage.engine import hooks
from leanstorage.rules import rendering
from leanstorage.engine.hooks import EngineDown, EngineTimeout
from leanstorage.engine.http_transport import HttpTransport
from leanwsgi.leancloud_wire import HOOK_PREFIXES
from tests.leanstorage.service_support import KEYS, ServiceTestCase, pointer

DATE = {"__type": "Date", "iso": "2020-01-01T00:00:00.000Z"}


class FakeEngine:
    """A transport that answers by functions of the object sent: {path: body -> (status, answer)}; keeps every call."""

    name = "the engine at test"

    def __init__(self):
        self.answers, self.calls, self.names, self.is_down = {}, [], [], False

    def __call__(self, method, path, headers, body, timeout):
        if self.is_down:
            raise EngineDown
        if path.endswith("_ops/metadatas"):
            return 200, json.dumps({"result": self.names}).encode()
        sent = json.loads(body)
        self.calls.append((path.removeprefix("/1.1"), headers, sent))
        status, answer = self.answers[path.removeprefix("/1.1")](sent)
        return status, json.dumps(answer).encode()

    def close(self):
        pass


class HookCase(ServiceTestCase):
    def setUp(self):
        self.engine = FakeEngine()
        self.service.engine = hooks.Engine(self.engine, KEYS)

    def tearDown(self):
        self.service.engine = None

    def on(self, class_name, hook, answer):
        self.engine.names.append(HOOK_PREFIXES[hook] + class_name)
        self.engine.answers[f"/functions/{class_name}/{hook}"] = answer
        self.service.engine = hooks.Engine(self.engine, KEYS)  # which asks anew what there is


class HooksTest(HookCase):
    def test_empty_objects_that_php_answers_as_empty_arrays_stay_objects(self):
        def php(value):
            if isinstance(value, dict):
                return {key: php(child) for key, child in value.items()} or []
            return [php(child) for child in value] if isinstance(value, list) else value

        sent = {"empty": {}, "list": [], "nested": {"a": [1, {"b": {}}, []], "c": {}}, "whole": {"a": {}}}
        for hook in ("beforeSave", "beforeUpdate"):
            self.on("Php", hook, lambda sent: (200, php(sent["object"]) | {"added": len(self.engine.calls)}))
        object_id = self.make("Php", **sent)
        self.api("PUT", f"/classes/Php/{object_id}", {"text": "t", "whole.b": {}})
        found = self.get("Php", object_id)
        self.assertEqual({key: found[key] for key in sent}, sent | {"whole": {"a": {}, "b": {}}})
        self.assertEqual((found["text"], found["added"]), ("t", 2))

    def test_hook_that_answers_empty_objects_may_empty_arrays(self):
        self.on("Js", "beforeSave", lambda sent: (200, {**sent["object"], "nested": {"a": [], "b": {}}}))
        object_id = self.make("Js", nested={"a": {}, "b": {}})
        self.assertEqual(self.get("Js", object_id)["nested"], {"a": [], "b": {}})

    def test_before_save_changes_what_is_stored(self):
        def before(sent):
            return 200, {**sent["object"], "added": 1, "text": "changed"}

        self.on("Hooked", "beforeSave", before)
        file_value = {"__type": "Bytes", "base64": "AAE="}
        object_id = self.make("Hooked", text="given", at=DATE, to=pointer("Foo", "a"), raw=file_value)
        found = self.get("Hooked", object_id)
        self.assertEqual((found["text"], found["added"], found["at"], found["raw"]), ("changed", 1, DATE, file_value))
        path, headers, sent = self.engine.calls[0]
        self.assertEqual(path, "/functions/Hooked/beforeSave")
        self.assertEqual(
            {name: headers[name] for name in ("X-LC-Id", "X-LC-Key", "X-LC-Hook-Key", "X-LC-Prod", "X-Real-IP")},
            {"X-LC-Id": "appid", "X-LC-Key": KEYS["key"], "X-LC-Hook-Key": "hook", "X-LC-Prod": "1", "X-Real-IP": "127.0.0.1"},
        )
        self.assertNotIn("X-LC-Session", headers)
        self.assertEqual(sent["object"]["at"], DATE)
        self.api("POST", "/classes/Hooked", {"text": "given"}, 201, headers={"X-Request-Id": "from-the-proxy"})
        self.assertEqual(self.engine.calls[1][1]["X-Request-Id"], "from-the-proxy")
        self.assertNotIn("user", sent)

    def test_before_hook_that_refuses_stores_nothing(self):
        rows = [
            ((400, {"code": 142, "error": "no"}), "no"),
            ((400, {"code": 1, "error": "no"}), "no"),
            ((400, {"code": 4711, "error": "no"}), '{"code":4711,"message":"no"}'),
            ((500, {"code": 141, "error": "x"}), '{"code":141,"message":"x"}'),
        ]
        for answer, detail in rows:
            self.setUp()
            self.on("Refused", "beforeSave", lambda sent, answer=answer: answer)
            text = self.code(142, "POST", "/classes/Refused", {"a": 1})
            self.assertEqual(text, f"Cloud Code validation failed. Error detail : {detail}")
        self.code(101, "GET", "/classes/Refused", status=404)

    def test_update_hook_gets_the_merged_object_and_its_changes_are_stored(self):
        object_id = self.make("Updated", n=1, text="x")
        self.on("Updated", "beforeUpdate", lambda sent: (200, {**sent["object"], "text": "by hook"}))
        after = []
        self.on("Updated", "afterUpdate", lambda sent: (after.append(sent), (200, {"result": "ok"}))[1])
        body = {"n": {"__op": "Increment", "amount": 2}}
        value = self.api("PUT", f"/classes/Updated/{object_id}", body, new="true")
        self.assertEqual((value["n"], value["text"]), (3, "by hook"))
        sent = self.engine.calls[0][2]["object"]
        self.assertEqual((sent["n"], sent["_updatedKeys"], sent["objectId"]), (3, ["n"], object_id))
        self.assertEqual(after[0]["object"]["text"], "by hook")

    def test_delete_hooks(self):
        object_id = self.make("Deleted", n=1)
        self.on("Deleted", "beforeDelete", lambda sent: (400, {"code": 1, "error": "Error from beforeDelete"}))
        text = self.code(142, "DELETE", f"/classes/Deleted/{object_id}")
        self.assertEqual(text, "Cloud Code validation failed. Error detail : Error from beforeDelete")
        body = {"__ignore_hooks": ["beforeDelete"]}
        self.code(142, "DELETE", f"/classes/Deleted/{object_id}", body)  # not for clients
        self.api("DELETE", f"/classes/Deleted/{object_id}", body, headers={"X-LC-Hook-Key": "hook"})

    def test_hooks_are_skipped_with_the_hook_key_and_never_stored(self):
        self.on("Skipped", "beforeSave", lambda sent: (400, {"code": 1, "error": "no"}))
        fields = {"a": 1, "__ignore_hooks": ["beforeSave"], "__before": "x"}
        self.code(142, "POST", "/classes/Skipped", fields)
        value = self.api("POST", "/classes/Skipped", fields, 201, headers={"X-LC-Hook-Key": "hook"})
        found = self.get("Skipped", value["objectId"])
        self.assertEqual(set(found), {"a", "objectId", "createdAt", "updatedAt"})

    def test_hook_knows_the_user_but_no_password(self):
        user = self.user("hookuser")
        self.on("ByUser", "beforeSave", lambda sent: (200, sent["object"]))
        self.make("ByUser", session=user["sessionToken"], a=1)
        sent = self.engine.calls[-1][2]["user"]
        self.assertEqual((sent["username"], sent["sessionToken"]), ("hookuser", user["sessionToken"]))
        self.on("_User", "beforeSave", lambda sent: (200, sent["object"]))
        self.user("another")
        self.assertNotIn("password", json.dumps(self.engine.calls[-1][2]))

    def test_hook_that_names_a_password_stores_no_column_of_it(self):
        self.on("_User", "beforeSave", lambda sent: (200, {**sent["object"], "password": "clear", "salt": {"a": 1}, "ok": 1}))
        user = self.user("hooked-password")
        self.assertEqual(user["ok"], 1)
        self.assertNotIn("clear", repr(self.service.store.read(lambda transaction: transaction.get("_User", user["objectId"]).body)))
        self.api("POST", "/login", {"username": "hooked-password", "password": "pw"})

    def test_after_hook_that_fails_is_only_logged(self):
        self.on("After", "afterSave", lambda sent: (500, {"code": 1, "error": "broken"}))
        with mock.patch("sys.stderr"):
            self.make("After", a=1)

    def test_after_hook_of_what_is_too_large_to_be_sent_is_left_out(self):
        self.on("Large", "afterSave", lambda sent: (200, {}))
        with mock.patch.object(rendering, "MAX_EXPANDED", 10), mock.patch.object(rendering, "QUICK_EXPANDED", 10):
            object_id = self.make("Large", files=[{"__type": "File", "id": "gone"}] * 11)
        self.assertEqual(self.engine.calls, [])
        self.assertEqual(len(self.get("Large", object_id)["files"]), 11)

    def test_engine_that_was_never_reached_refuses_writes_of_clients(self):
        self.engine.is_down = True
        with redirect_stderr(io.StringIO()):
            text = self.code(142, "POST", "/classes/Down", {"a": 1})
            self.make("Down", master=True, a=1)
        self.assertIn("Application not found", text)

    def test_operator_is_told_when_the_engine_is_lost_and_when_it_is_back(self):
        def told(*arguments, **more):
            output = io.StringIO()
            with redirect_stderr(output):
                self.api(*arguments, **more)
            return output.getvalue()

        self.engine.is_down = True
        post = ("POST", "/classes/Told", {"a": 1})
        with mock.patch.object(hooks, "RETRY_SECONDS", 0), mock.patch.object(hooks, "LIST_SECONDS", 0):
            self.assertEqual(told(*post, status=400), "the engine at test cannot be reached: writes are refused\n")
            self.assertEqual(told(*post, status=400), "")
            self.engine.is_down = False
            self.assertEqual(told(*post, status=201), "the engine at test is back\n")
            self.assertEqual(told(*post, status=201), "")
        self.on("Told", "beforeSave", lambda sent: (200, sent["object"]))
        self.assertEqual(told(*post, status=201), "")
        self.engine.is_down = True
        line = "the engine at test cannot be reached: writes that have hooks are refused\n"
        self.assertEqual(told(*post, status=400), line)
        self.assertEqual(told(*post, status=400), "")

    def test_operator_is_told_that_something_else_answers(self):
        class Other(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_error(401)

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Other)
        threading.Thread(target=server.serve_forever).start()
        url = f"127.0.0.1:{server.server_port}"
        self.service.engine = hooks.Engine(HttpTransport(f"http://user:secret@{url}/"), KEYS)
        output = io.StringIO()
        try:
            with redirect_stderr(output):
                self.code(142, "POST", "/classes/Other", {})
        finally:
            self.service.engine.close()
            server.shutdown()
            server.server_close()
        self.assertTrue(output.getvalue().startswith(f"the engine at http://{url} answers 401 and no list"), output.getvalue())

    def test_engine_that_was_never_reached_lets_nobody_log_in_past_its_hooks(self):
        self.user("down")
        account = {"authData": {"anonymous": {"id": "down"}}}
        self.api("POST", "/users", account, 201)
        self.service.engine = hooks.Engine(self.engine, KEYS)
        self.engine.is_down = True
        login = {"username": "down", "password": "pw"}
        self.assertIn("Application not found", self.code(142, "POST", "/login", login, status=401))
        self.assertIn("Application not found", self.code(142, "POST", "/users", account))
        self.api("POST", "/login", login, master=True)
        self.engine.is_down = False
        self.service.engine = hooks.Engine(self.engine, KEYS)
        self.api("POST", "/login", login)
        self.engine.names.append("__on_login__User")
        self.service.engine = hooks.Engine(self.engine, KEYS)
        self.engine.answers["/functions/_User/onLogin"] = lambda sent: (200, {"result": "ok"})
        self.api("POST", "/login", login)
        self.engine.is_down = True
        self.code(142, "POST", "/login", login, status=401)

    def test_engine_that_goes_down_lets_no_write_slip_past_its_hooks(self):
        self.on("Gone", "beforeSave", lambda sent: (200, sent["object"]))
        self.make("Gone", a=1)
        self.engine.is_down = True
        with redirect_stderr(io.StringIO()):
            self.code(142, "POST", "/classes/Gone", {"a": 2})
        self.assertEqual(len(self.find("Gone")), 1)

    def test_slow_hook_is_a_timeout(self):
        def slow(sent):
            raise EngineTimeout

        self.on("Slow", "beforeSave", slow)
        self.assertEqual(self.code(141, "POST", "/classes/Slow", {}), "LeanEngine request timeout.")

    def test_hook_that_saves_the_same_object_neither_loops_nor_deadlocks(self):
        def after(sent):
            # The app saves again what it was told of: its hooks fire again, each time one level deeper.
            headers = {**self.engine.calls[-1][1], "X-LC-Id": "appid", "X-LC-Key": KEYS["key"]}
            path = f"/1.1/classes/Loop/{sent['object']['objectId']}"
            names = ("X-LC-Id", "X-LC-Key", "X-LC-Hook-Key", "X-LeanStorage-Depth")
            self.raw("PUT", path, b'{"n":{"__op":"Increment","amount":1}}', {name: headers[name] for name in names})
            return 200, {"result": "ok"}

        self.on("Loop", "afterSave", after)
        self.on("Loop", "afterUpdate", after)
        with mock.patch("sys.stderr"):
            object_id = self.make("Loop", n=0)
        self.assertLessEqual(self.get("Loop", object_id)["n"], hooks.MAX_DEPTH + 1)

    def test_depth_that_a_stranger_claims_leaves_no_hook_out(self):
        self.on("Audit", "afterSave", lambda sent: (200, {"result": "ok"}))
        self.api("POST", "/classes/Audit", {"a": 1}, 201, headers={"X-LeanStorage-Depth": "5"})
        self.assertEqual([path for path, _, _ in self.engine.calls], ["/functions/Audit/afterSave"])

    def test_no_lock_or_transaction_is_held_while_a_hook_runs(self):
        entered, leave = threading.Event(), threading.Event()

        def before(sent):
            entered.set()
            leave.wait(5)
            return 200, sent["object"]

        self.on("Waiting", "beforeSave", before)
        thread = threading.Thread(target=self.make, args=("Waiting",), kwargs={"a": 1})
        thread.start()
        entered.wait(5)
        start = time.monotonic()
        self.make("Meanwhile", a=1)
        self.assertLess(time.monotonic() - start, 2)
        leave.set()
        thread.join()


class PrivateTest(HookCase):
    def test_hook_is_sent_no_private_column_of_a_user(self):
        user = self.user("imported")

        def bring(transaction):
            row = transaction.get("_User", user["objectId"])
            row.body.update({"_hashed_password": "s3cret", "_SessionToken": "s3cret", "password": "s3cret", "salt": "s3cret"})
            transaction.update("_User", row)

        self.service.store.write(bring)
        for hook in ("beforeUpdate", "afterUpdate"):
            self.on("_User", hook, lambda sent: (200, {}))
        self.api("PUT", f"/users/{user['objectId']}", {"n": 1}, session=user["sessionToken"])
        self.assertIn("/functions/_User/beforeUpdate", [path for path, _, _ in self.engine.calls])
        for path, _, sent in self.engine.calls:
            with self.subTest(path):
                self.assertEqual(sent["object"]["username"], "imported")
                self.assertNotIn("s3cret", json.dumps(sent))


class FunctionsTest(HookCase):
    def setUp(self):
        super().setUp()
        self.engine.answers["/functions/hello"] = lambda sent: (200, {"result": sent})
        self.engine.answers["/call/rpc"] = lambda sent: (200, {"result": sent})
        self.engine.answers["/functions/broken"] = lambda sent: (500, {"code": 141, "error": "x"})

    def test_function_is_given_up_before_its_caller_gives_up(self):
        self.assertLess(hooks.FUNCTION_SECONDS, 15)  # which the SDKs wait

    def test_function_is_passed_on_with_credentials_of_ours(self):
        user = self.user("caller")
        value = self.api("POST", "/functions/hello", {"a": 1}, session=user["sessionToken"], headers={"X-LC-Hook-Key": "wrong"})
        self.assertEqual(value, {"result": {"a": 1}})
        headers = self.engine.calls[-1][1]
        self.assertEqual((headers["X-LC-Key"], headers["X-LC-Session"]), (KEYS["key"], user["sessionToken"]))
        self.assertNotIn("X-LC-Hook-Key", headers)
        self.api("POST", "/call/rpc", pointer("Foo", "a"), master=True)
        self.assertEqual(self.engine.calls[-1][1]["X-LC-Key"], KEYS["master_key"] + ",master")
        self.api("POST", "/functions/hello")

    def test_hooks_of_messaging_are_no_functions_of_clients(self):
        names = "_messageReceived _messageSent _receiversOffline _rtmClientSign _clientOnline _clientOffline _conversationStart"
        names += " _conversationStarted _conversationAdd _conversationAdded _conversationRemove _conversationRemoved"
        for name in [*names.split(), "_conversationUpdate"]:
            with self.subTest(name):
                self.code(1, "POST", f"/functions/{name}", {}, status=404)
                self.code(1, "POST", f"/call/{name}", {}, status=404, master=True)
        self.engine.answers["/functions/_clientReport"] = lambda sent: (200, {"result": 1})
        self.assertEqual(self.api("POST", "/functions/_clientReport", {}), {"result": 1})

    def test_refused_calls_have_their_codes(self):
        self.code(211, "POST", "/functions/hello", {}, status=401, session="dead")
        self.code(1, "POST", "/functions/hello", {"user": {"objectId": "victim"}})
        for path in ("/functions/__before_save_for_Todo", "/functions/_messageReceived", "/functions/Todo/beforeSave"):
            self.code(1, "POST", path, {"object": {}}, status=404)
        self.code(141, "POST", "/functions/broken", {}, status=500)
        self.assertIn("result", self.api("POST", "/functions/hello", []))  # PHP's way to send no parameters
        self.code(107, "POST", "/functions/hello", [1])

        for name in ("%5f_before_save_for_Todo", "%255f_before_save_for_Todo", "..", ".", "hello%3fa", "hello%23", "a b", "a%00"):
            self.code(1, "POST", f"/functions/{name}", {"object": {}}, status=404)
            self.assertNotIn("before_save", repr(self.engine.calls))

        def slow(sent):
            raise EngineTimeout

        self.engine.answers["/functions/hello"] = slow
        self.code(124, "POST", "/functions/hello", {}, status=503)
        self.engine.is_down = True
        with redirect_stderr(io.StringIO()):
            self.code(503, "POST", "/functions/hello", {}, status=503)

    def test_function_without_an_engine_says_so(self):
        self.service.engine = None
        self.assertIn("serve --engine", self.code(1, "POST", "/functions/hello", {}, status=404))
        self.assertEqual(self.code(1, "POST", "/functions/__before_save_for_Todo", {}, status=404), "Not Found.")


class TransportTest(unittest.TestCase):
    def test_function_whose_name_is_not_ascii_reaches_an_engine_by_either_transport(self):
        paths = []

        def engine(environ, start_response):
            paths.append(environ["PATH_INFO"].encode("latin-1").decode())
            start_response("200 OK", [("Content-Length", "2")])
            return [b"{}"]

        in_process = hooks.WsgiTransport(engine)
        self.addCleanup(in_process.close)
        server = make_server("127.0.0.1", 0, engine, handler_class=_Silent)
        self.addCleanup(server.server_close)
        over_http = HttpTransport(f"http://127.0.0.1:{server.server_port}")
        self.addCleanup(over_http.close)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        for transport in (in_process, over_http):
            transport("POST", "/1.1/functions/%E5%A5%BD", {}, b"{}", 5)
        thread.join()
        self.assertEqual(paths, ["/1.1/functions/好"] * 2)


class _Silent(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass


class MergeTest(unittest.TestCase):
    def test_merge_keeps_operations_that_the_hook_left_alone(self):
        increment = {"__op": "Increment", "amount": 1}
        rows = [
            ("left alone", {"n": increment}, {"n": 2}, {"n": 2}, {"n": increment}),
            ("overwritten", {"n": increment}, {"n": 2}, {"n": 5}, {"n": 5}),
            ("dropped", {"n": 1, "m": 2}, {"n": 1, "m": 2}, {"n": 1}, {"n": 1}),
            ("added", {}, {}, {"x": 1}, {"x": 1}),
            ("equal in value", {"n": 1}, {"n": 1}, {"n": 1.0}, {"n": 1}),
            ("built-ins", {"n": 1}, {"n": 1}, {"n": 1, "objectId": "x", "__type": "Object", "_x": 1}, {"n": 1}),
            ("bytes as null", {"b": {"__type": "Bytes", "base64": "AA=="}}, {"b": {"__type": "Bytes", "base64": "AA=="}}, {"b": None}, {"b": {"__type": "Bytes", "base64": "AA=="}}),
            ("dotted", {"o.a": 1}, {"o": {"a": 1}}, {"o": {"a": 2}}, {"o": {"a": 2}}),
        ]
        for name, fields, preview, answer, wanted in rows:
            with self.subTest(name):
                self.assertEqual(hooks.merge(fields, preview, answer), wanted)


if __name__ == "__main__":
    unittest.main()
