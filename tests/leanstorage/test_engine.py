"""The app's engine as the storage sees it: how long a list of hooks is believed, what an engine's errors become, how it is reached."""
import hashlib
import hmac
import io
import json
import threading
import time
import unittest
from contextlib import redirect_stderr
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from unittest import mock

from leanstorage.engine import hooks
from leanstorage.engine.hooks import EngineDown, EngineTimeout
from leanstorage.engine.http_transport import HttpTransport
from leanstorage.rules.call import Call, Caller
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import now
from tests.leanstorage.service_support import KEYS, ServiceTestCase
from tests.support import serve


class Scripted:
    """A transport that answers what it is told to, one after the other, or what it was told last; keeps the calls."""

    name = "the engine at test"

    def __init__(self, *answers):
        self.answers, self.calls, self.is_closed = list(answers), [], False

    def __call__(self, method, path, headers, body, timeout):
        self.calls.append((method, path, headers, body, timeout))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.is_closed = True


def listed(*names):
    return 200, json.dumps({"result": names}).encode()


class EngineCase(unittest.TestCase):
    def engine(self, *answers, memory=None):
        self.transport = Scripted(*answers)
        return hooks.Engine(self.transport, KEYS, memory)

    def said(self, function, *arguments):
        """(what a function returns or raises, what it prints)."""
        output = io.StringIO()
        with redirect_stderr(output):
            try:
                found = function(*arguments)
            except Exception as error:
                found = type(error)
        return found, output.getvalue()


class ListTest(EngineCase):
    def test_list_is_believed_for_a_minute(self):
        engine = self.engine(listed("a"), listed("b"))
        began = time.monotonic()
        for seconds, name, calls in ((0, "a", 1), (59.9, "a", 1), (60.1, "b", 2), (119.9, "b", 2)):
            with self.subTest(seconds), mock.patch("leanstorage.engine.hooks.time.monotonic", return_value=began + seconds):
                self.assertEqual((engine.names(), len(self.transport.calls)), (frozenset([name]), calls))
        self.assertEqual(self.transport.calls[0][:2] + self.transport.calls[0][3:], ("GET", "/1.1/functions/_ops/metadatas", b"", 3))

    def test_engine_that_is_down_is_asked_once_a_second(self):
        engine = self.engine(EngineDown())
        began = time.monotonic()
        for seconds, calls in ((0, 1), (0.9, 1), (1.1, 2), (2.0, 2), (2.2, 3)):
            with self.subTest(seconds), mock.patch("leanstorage.engine.hooks.time.monotonic", return_value=began + seconds):
                self.assertIs(self.said(engine.names)[0], EngineDown)
                self.assertEqual(len(self.transport.calls), calls)

    def test_list_of_before_is_believed_while_the_engine_is_down(self):
        engine = self.engine(listed("a"), EngineTimeout())
        engine.names()
        with mock.patch.object(hooks, "LIST_SECONDS", 0), mock.patch.object(hooks, "RETRY_SECONDS", 0):
            found, said = self.said(engine.names)
        self.assertEqual(found, frozenset(["a"]))
        self.assertEqual(said, "the engine at test cannot be reached: writes that have hooks are refused\n")

    def test_class_may_have_a_hook_until_the_list_says_it_has_none(self):
        engine = self.engine(listed("__before_save_for_A", "__after_delete_for_B"))
        self.assertTrue(engine.may_hook("C"))
        self.assertEqual(self.transport.calls, [])
        engine.names()
        self.assertEqual([engine.may_hook(name) for name in "ABC"], [True, True, False])
        with mock.patch.object(hooks, "LIST_SECONDS", 0):
            self.assertTrue(engine.may_hook("C"))
        self.assertEqual(len(self.transport.calls), 1)

    def test_what_an_engine_answers_instead_of_a_list_with_table(self):
        for answer, wanted, said in (
            ((404, b"{}"), frozenset(), "the engine at test has no cloud functions and no hooks\n"),
            ((404, b"no json"), frozenset(), "the engine at test has no cloud functions and no hooks\n"),
            ((200, b'{"result": ["a", 5]}'), frozenset(["a", "5"]), ""),
            ((200, b'{"result": "a"}'), EngineDown, "answers 200 and no list"),
            ((200, b"no json"), EngineDown, "answers 200 and no list"),
            ((200, b"[]"), EngineDown, "answers 200 and no list"),
            ((200, b"{}"), EngineDown, "answers 200 and no list"),
            ((201, b'{"result": ["a"]}'), EngineDown, "answers 201 and no list"),
            ((500, b'{"result": ["a"]}'), EngineDown, "answers 500 and no list"),
        ):
            with self.subTest(answer):
                found, printed = self.said(self.engine(answer).names)
                self.assertEqual(found, wanted)
                self.assertIn(said, printed)
                self.assertEqual(bool(said), bool(printed))

    def test_engine_without_cloud_code_is_said_once(self):
        engine = self.engine((404, b""))
        self.assertIn("no hooks", self.said(engine.names)[1])
        with mock.patch.object(hooks, "LIST_SECONDS", 0), mock.patch.object(hooks, "RETRY_SECONDS", 0):
            self.assertEqual(self.said(engine.names), (frozenset(), ""))

    def test_headers_of_old_sdks_are_tried_where_the_others_are_refused(self):
        engine = self.engine((401, b""), listed("a"))
        self.assertEqual(engine.names(), frozenset(["a"]))
        new, old = (headers for _, _, headers, _, _ in self.transport.calls)
        self.assertEqual(new, {"X-LC-Id": "appid", "X-LC-Key": KEYS["master_key"] + ",master"})
        self.assertEqual(old, {"X-AVOSCloud-Application-Id": "appid", "X-AVOSCloud-Application-Key": KEYS["master_key"]})
        self.assertTrue(engine.is_old)
        self.transport.answers = [(401, b""), listed("b")]  # it is another one by now
        with mock.patch.object(hooks, "LIST_SECONDS", 0), mock.patch.object(hooks, "RETRY_SECONDS", 0):
            self.assertEqual(engine.names(), frozenset(["b"]))
        self.assertFalse(engine.is_old)
        refusing = self.engine((401, b""))
        self.assertIs(self.said(refusing.names)[0], EngineDown)
        self.assertFalse(refusing.is_old)

    def test_check_asks_for_the_list_in_the_time_it_is_given(self):
        self.engine(listed("a")).check(1.5)
        self.assertEqual([call[4] for call in self.transport.calls], [1.5])
        for error in (EngineDown(), EngineTimeout()):
            with self.assertRaises(type(error)):
                self.engine(error).check(1)
        with self.assertRaises(EngineDown):
            self.engine((500, b"")).check(1)

    def test_closing_closes_the_transport(self):
        self.engine(listed()).close()
        self.assertTrue(self.transport.is_closed)


class MemoryTest(EngineCase, ServiceTestCase):
    def setUp(self):
        self.service.store.write(lambda transaction: transaction.delete_record("engine", "names"))

    def test_list_outlives_a_restart_while_the_engine_is_down(self):
        memory = hooks.EngineMemory(self.service.store)
        self.assertIsNone(memory.read())
        self.assertIs(self.said(self.engine(EngineDown(), memory=memory).names)[0], EngineDown)
        self.assertEqual(self.engine(listed("b", "a"), memory=memory).names(), frozenset("ab"))
        self.assertEqual(self.service.store.read(lambda transaction: transaction.record("engine", "names")), ["a", "b"])
        found, said = self.said(self.engine(EngineDown(), memory=memory).names)
        self.assertEqual(found, frozenset("ab"))
        self.assertIn("writes that have hooks are refused", said)
        self.assertEqual(self.engine(listed(), memory=memory).names(), frozenset())
        self.assertEqual(memory.read(), frozenset())

    def test_list_is_written_where_it_is_another_one(self):
        memory = hooks.EngineMemory(self.service.store)
        memory.write(frozenset(["x"]))
        with mock.patch.object(self.service.store, "write", wraps=self.service.store.write) as writes:
            memory.write(frozenset(["x"]))
            self.assertEqual(writes.call_count, 0)
            memory.write(frozenset(["y"]))
            self.assertEqual(writes.call_count, 1)


class PostTest(EngineCase):
    def test_every_call_is_told_of_with_its_outcome(self):
        for answer, outcome in (
            ((200, b"{}"), "ok"),
            ((299, b"{}"), "ok"),
            ((300, b"{}"), "failed"),
            ((400, b"{}"), "failed"),
            (EngineDown(), "down"),
            (EngineTimeout(), "timeout"),
            (ZeroDivisionError(), "failed"),
        ):
            for path, name in (("/1.1/functions/Todo/beforeSave", "beforeSave"), ("/1.1/functions/hello", "function"), ("/1.1/call/afterSave", "afterSave")):
                told = []
                engine = self.engine(answer)
                engine.called = lambda *arguments: told.append(arguments)
                with self.subTest(answer, path=path):
                    found, _ = self.said(engine.post, path, {"a": 1}, 2, {"X-A": "b"})
                    self.assertEqual(found, type(answer) if isinstance(answer, Exception) else (answer[0], {}))
                    [(what, how, seconds)] = told
                    self.assertEqual((what, how), (name, outcome))
                    self.assertTrue(0 <= seconds < 5, seconds)
                    sent = ("POST", path, {"Content-Type": "application/json", "X-A": "b"}, b'{"a":1}', 2)
                    self.assertEqual(self.transport.calls, [sent])

    def test_call_tells_that_an_engine_is_lost_and_that_it_is_back(self):
        engine = self.engine(EngineDown(), EngineDown("is gone"), (200, b"{}"))
        said = [self.said(engine.post, "/1.1/functions/a", {}, 1, {})[1] for _ in range(3)]
        self.assertEqual(said, ["the engine at test cannot be reached: writes are refused\n", "", "the engine at test is back\n"])

    def test_answer_that_is_not_json_is_a_value_error(self):
        with self.assertRaises(ValueError):
            self.engine((200, b"<html>")).post("/1.1/functions/a", {}, 1, {})


class AskCase(EngineCase, ServiceTestCase):
    def setUp(self):
        self.addCleanup(setattr, self.service, "engine", None)

    def call(self, *answers, is_master=False, **caller):
        self.service.engine = self.engine(*answers)
        caller = Caller(is_master=is_master, address="9.9.9.9", **caller)
        return Call(self.service, caller, "POST", {}, {}, "http://a", depth=2, request_id="r1")


class AnswersTest(AskCase):
    def test_answer_of_a_hook_becomes_an_error_with_table(self):
        told = "Cloud Code validation failed. Error detail : "
        for answer, code, text in (
            ((200, b'{"a":1}'), None, {"a": 1}),
            ((299, b"{}"), None, {}),
            ((200, b"[1]"), None, {}),
            ((199, b'{"error":"x"}'), Code.HOOK_REFUSED, told + "x"),
            ((300, b'{"error":"x"}'), Code.HOOK_REFUSED, told + "x"),
            ((400, b'{"code":1,"error":"no"}'), Code.HOOK_REFUSED, told + "no"),
            ((400, b'{"code":142,"error":"no"}'), Code.HOOK_REFUSED, told + "no"),
            ((400, b'{"code":400,"error":"no"}'), Code.HOOK_REFUSED, told + "no"),
            ((400, b'{"code":2,"error":"n\\u00fc"}'), Code.HOOK_REFUSED, told + '{"code":2,"message":"nü"}'),
            ((400, b'{"code":399,"error":5}'), Code.HOOK_REFUSED, told + '{"code":399,"message":"5"}'),
            ((400, b"{}"), Code.HOOK_REFUSED, told + "Unknown error."),
            ((500, b"null"), Code.HOOK_REFUSED, told + "Unknown error."),
            ((200, b"<html>"), Code.HOOK_REFUSED, told + "The engine's answer is not JSON."),
            (EngineDown(), Code.HOOK_REFUSED, told + "Application not found"),
            (EngineTimeout(), Code.SCRIPT_ERROR, "LeanEngine request timeout."),
        ):
            call = self.call(answer)
            with self.subTest(answer), redirect_stderr(io.StringIO()):
                try:
                    found = (None, hooks.before(call, "Todo", "beforeSave", {}, None))
                except StorageError as error:
                    found = (error.kind, error.message)
                self.assertEqual(found, (code, text))

    def test_hooks_have_their_time_and_their_path(self):
        call = self.call((200, b"{}"))
        hooks.before(call, "Todo", "beforeSave", {"a": 1}, {"username": "u"})
        hooks.after(call, "Todo", "afterSave", {"a": 1}, {"username": "u"})
        hooks.after(call, "Todo", "afterSave", {}, None)
        self.assertEqual([(path, timeout) for _, path, _, _, timeout in self.transport.calls][:2], [("/1.1/functions/Todo/beforeSave", 10), ("/1.1/functions/Todo/afterSave", 3)])
        before, after, of_nobody = (json.loads(body) for _, _, _, body, _ in self.transport.calls)
        self.assertEqual((before["user"], before["object"]["a"], set(before["object"])), ({"username": "u"}, 1, {"a", "__before"}))
        self.assertEqual((after["user"], set(after["object"])), ({"username": "u"}, {"a", "__after"}))
        self.assertEqual(set(of_nobody), {"object"})

    def test_failure_of_an_after_hook_is_logged_in_200_characters(self):
        call = self.call((400, json.dumps({"code": 1, "error": "x" * 150}).encode()))
        text = ("Cloud Code validation failed. Error detail : " + "x" * 150)[:200]
        self.assertEqual(self.said(hooks.after, call, "Todo", "afterSave", {}, None), (None, f"afterSave of Todo failed: {text!r}\n"))

    def test_headers_of_a_call_are_ours_and_one_level_deeper(self):
        for is_production, said in ((True, "1"), (False, "0")):
            call = self.call((200, b"{}"), is_production=is_production, token="t", is_master=True)
            self.assertEqual(
                hooks.headers(call, More="m"),
                {
                    "X-LC-Id": "appid",
                    "X-LC-Key": KEYS["key"],
                    "X-LC-Hook-Key": "hook",
                    "X-LC-Prod": said,
                    "X-Real-IP": "9.9.9.9",
                    "X-LeanStorage-Depth": "3",
                    "X-Request-Id": "r1",
                    "More": "m",
                },
            )
        call.service.engine.is_old = True
        self.assertEqual(hooks.headers(call)["X-AVOSCloud-Application-Key"], KEYS["key"])

    def test_credentials_with_table(self):
        new = {"X-LC-Id": "appid", "X-LC-Key": KEYS["key"]}
        old = {"X-AVOSCloud-Application-Id": "appid", "X-AVOSCloud-Application-Key": KEYS["key"]}
        for options, wanted in (
            ({}, new),
            ({"token": "t"}, {**new, "X-LC-Session": "t"}),
            ({"is_master": True}, {**new, "X-LC-Key": KEYS["master_key"] + ",master"}),
            ({"is_old": True}, old),
            ({"is_old": True, "token": "t"}, {**old, "X-AVOSCloud-Session-Token": "t"}),
            ({"is_old": True, "is_master": True}, {**old, "X-AVOSCloud-Application-Key": KEYS["master_key"]}),
        ):
            with self.subTest(options):
                self.assertEqual(hooks.credentials(KEYS, **options), wanted)

    def test_hook_of_users_is_called_where_there_is_one(self):
        body = {"object": {"username": "u"}}
        for answers, is_master, wanted in (
            ([listed("other")], False, None),
            ([listed("onLogin"), (200, b'{"b":2}')], False, {"b": 2}),
            ([listed("onLogin"), (400, b'{"code":1,"error":"no"}')], False, Code.LOGIN_REFUSED),
            ([EngineDown()], False, Code.LOGIN_REFUSED),
            ([EngineDown()], True, None),
        ):
            call = self.call(*answers, is_master=is_master)
            with self.subTest(answers, is_master=is_master), redirect_stderr(io.StringIO()):
                try:
                    found = hooks.user_hook(call, "onLogin", "/1.1/functions/_User/onLogin", body, Code.LOGIN_REFUSED)
                except StorageError as error:
                    found = error.kind
                self.assertEqual(found, wanted)
        call = self.call(listed("onLogin"), (200, b"{}"))
        hooks.user_hook(call, "onLogin", "/1.1/functions/_User/onLogin", body, Code.LOGIN_REFUSED)
        *_, sent, seconds = self.transport.calls[1]
        told = json.loads(sent)["object"]
        self.assertEqual(told.pop("__sign").partition(",")[0].isdigit(), True)
        self.assertEqual((told, seconds), ({"username": "u", "__type": "Object", "className": "_User"}, 3))
        self.service.engine = None
        self.assertIsNone(hooks.user_hook(call, "onLogin", "", body, Code.LOGIN_REFUSED))

    def test_hook_is_wanted_with_table(self):
        for class_name, hook, depth, wanted in (
            ("Todo", "beforeSave", 2, True),
            ("Todo", "afterSave", 2, False),
            ("Other", "beforeSave", 2, False),
            ("_Installation", "beforeSave", 2, False),
            ("Todo", "beforeSave", 4, True),
            ("Todo", "beforeSave", 5, Code.HOOK_REFUSED),
            ("Other", "beforeSave", 5, False),
        ):
            call = self.call(listed("__before_save_for_Todo", "__before_save_for__Installation"))
            with self.subTest(class_name, hook=hook, depth=depth):
                try:
                    found = hooks.wanted(call._replace(depth=depth), class_name, hook)
                except StorageError as error:
                    found = error.kind
                    self.assertIn("more than 5 levels", error.message)
                self.assertIs(found, wanted)
        for is_master, wanted in ((True, False), (False, Code.HOOK_REFUSED)):
            call = self.call(EngineDown(), is_master=is_master)
            with self.subTest(is_master=is_master), redirect_stderr(io.StringIO()):
                try:
                    found = hooks.wanted(call, "Todo", "beforeSave")
                except StorageError as error:
                    found = error.kind
                    self.assertIn("Application not found", error.message)
                self.assertIs(found, wanted)

    def test_mark_is_good_for_an_hour_before_and_after(self):
        here = now()
        for ms, is_good in ((here, True), (here - 3_600_000, True), (here - 3_600_001, False), (here + 3_600_000, True), (here + 3_600_001, False)):
            text = f"{ms},{hmac.new(KEYS['master_key'].encode(), f'__before_for_Todo:{ms}'.encode(), hashlib.sha1).hexdigest()}"
            self.assertEqual(hooks.mark(KEYS, "__before_for_Todo", ms), text)
            with self.subTest(ms - here), mock.patch("leanstorage.engine.hooks.now", return_value=here):
                call = self.call(listed("__before_save_for_Todo")).with_body({"__before": text})
                self.assertIs(hooks.wanted(call, "Todo", "beforeSave"), not is_good)


class MergeTest(unittest.TestCase):
    def test_empty_values_of_php_with_table(self):
        relation = {"__type": "Relation", "className": "C"}
        public = {"*": {"read": True, "write": True}}
        private = {"u": {"read": True}}
        data = {"__type": "Bytes", "base64": "AA=="}
        for name, fields, preview, answer, wanted in (
            ("empty object", {"o": {}}, {"o": {}}, {"o": []}, {"o": {}}),
            ("empty array stays", {"o": []}, {"o": []}, {"o": []}, {"o": []}),
            ("emptied", {"o": {"a": 1}}, {"o": {"a": 1}}, {"o": []}, {"o": []}),
            ("within an object", {"o": {"a": {}}}, {"o": {"a": {}}}, {"o": {"a": []}, "n": 1}, {"o": {"a": {}}, "n": 1}),
            ("within an array", {"o": [{}, 1]}, {"o": [{}, 1]}, {"o": [[], 2]}, {"o": [{}, 2]}),
            ("of another length", {"o": [{}]}, {"o": [{}]}, {"o": [[], []]}, {"o": [[], []]}),
            ("not PHP", {"o": {}}, {"o": {}}, {"o": [], "x": {}}, {"o": [], "x": {}}),
            ("not PHP, within an array", {"o": {}}, {"o": {}}, {"o": [], "x": [{}]}, {"o": [], "x": [{}]}),
            ("not PHP, within an object", {"o": {}}, {"o": {}}, {"o": [], "x": {"y": {}}}, {"o": [], "x": {"y": {}}}),
            ("relation", {"r": relation}, {"r": relation}, {"r": {**relation, "className": "D"}}, {"r": relation}),
            ("relation that is left out", {"r": 1}, {"r": relation}, {}, {"r": 1}),
            ("null for Bytes", {"b": data}, {"b": data}, {"b": None}, {"b": data}),
            ("null for a text", {"b": "x"}, {"b": "x"}, {"b": None}, {"b": None}),
            ("null for an object", {"b": {"a": 1}}, {"b": {"a": 1}}, {"b": None}, {"b": None}),
            ("built-in and more", {"n": 1}, {"n": 1}, {"createdAt": 1, "n": 2}, {"n": 2}),
            ("relation and more", {"n": 1}, {"n": 1, "r": relation}, {"r": relation, "n": 2}, {"n": 2}),
            ("Bytes and more", {"b": data, "n": 1}, {"b": data, "n": 1}, {"b": None, "n": 2}, {"b": data, "n": 2}),
            ("public ACL", {"n": 1}, {"n": 1}, {"n": 1, "ACL": public}, {"n": 1}),
            ("new ACL", {"n": 1}, {"n": 1}, {"n": 1, "ACL": private}, {"n": 1, "ACL": private}),
            ("same ACL", {"n": 1}, {"n": 1, "ACL": private}, {"n": 1, "ACL": private}, {"n": 1}),
            ("opened ACL", {"n": 1}, {"n": 1, "ACL": private}, {"n": 1, "ACL": public}, {"n": 1, "ACL": public}),
            ("first Python SDK", {"n": 1}, {"n": 1}, {"result": "ok"}, {"n": 1}),
            ("a key named result", {"result": 1}, {"result": 1}, {"result": 2}, {"result": 2}),
            ("result and more", {"n": 1}, {"n": 1}, {"result": 2, "n": 1}, {"n": 1, "result": 2}),
            ("dotted and left out", {"o.a": 1, "n": 1}, {"o": {"a": 1}, "n": 1}, {"n": 1}, {"n": 1}),
            ("of another key that begins alike", {"o.a": 1, "oo": 1}, {"o": {"a": 1}, "oo": 1}, {"o": {"a": 2}, "oo": 1}, {"oo": 1, "o": {"a": 2}}),
        ):
            with self.subTest(name):
                self.assertEqual(hooks.merge(fields, preview, answer), wanted)


class TransportTest(unittest.TestCase):
    def serve(self, answer):
        """The URL of a server that answers every request by `answer(handler)`."""

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                answer(self)

            def log_message(self, *_):
                pass

        return serve(HTTPServer(("127.0.0.1", 0), Handler), self.addCleanup)

    def http(self, url):
        transport = HttpTransport(url)
        self.addCleanup(transport.close)
        return transport

    def test_redirect_of_an_engine_is_not_followed(self):
        def answer(handler):
            handler.send_response(302)
            handler.send_header("Location", "/other")
            handler.send_header("Content-Length", "2")
            handler.end_headers()
            handler.wfile.write(b"{}")

        self.assertEqual(self.http(self.serve(answer))("POST", "/a", {}, b"", 10), (302, b"{}"))

    def test_engine_that_is_slow_or_gone_is_told_apart(self):
        left = threading.Event()
        self.addCleanup(left.set)
        slow = self.http(self.serve(lambda handler: left.wait(30)))
        with self.assertRaises(EngineTimeout):
            slow("POST", "/a", {}, b"", 0.05)
        left.set()
        with self.assertRaises(EngineDown):
            self.http(self.serve(lambda handler: handler.close_connection))("POST", "/a", {}, b"", 10)
        with self.assertRaises(EngineDown):
            self.http("http://127.0.0.1:1")("POST", "/a", {}, b"", 10)

    def test_transport_is_named_without_credentials_and_uses_no_proxy_of_the_environment(self):
        for url, name in (("http://u:p@h:1/", "http://h:1"), ("http://h/a/", "http://h/a"), ("https://h", "https://h")):
            with self.subTest(url):
                self.assertEqual(self.http(url).name, f"the engine at {name}")
        session = self.http("http://h").session
        self.assertFalse(session.trust_env)
        for scheme in ("http", "https"):  # as many connections as threads may call at a time
            self.assertEqual(session.get_adapter(f"{scheme}://h/").poolmanager.connection_pool_kw["maxsize"], 64)

    def test_engine_in_process_is_given_a_whole_request_and_closed(self):
        seen = {}

        class Body(list):
            def close(self):
                seen["closed"] = True

        def engine(environ, start_response):
            seen.update(environ, body=environ["wsgi.input"].read())
            start_response("207 Multi-Status", [("Content-Length", "4")])(b"")
            return Body([b"ab", b"cd"])

        transport = hooks.WsgiTransport(engine)
        self.addCleanup(transport.close)
        headers = {"Content-Type": "application/json", "X-LC-Id": "appid"}
        self.assertEqual(transport("POST", "/1.1/a", headers, b"{}", 10), (HTTPStatus.MULTI_STATUS, b"abcd"))
        wanted = {"CONTENT_TYPE": "application/json", "HTTP_X_LC_ID": "appid", "CONTENT_LENGTH": "2", "body": b"{}", "closed": True}
        wanted |= {"wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False}
        self.assertEqual({name: seen.get(name) for name in wanted}, wanted)
        self.assertNotIn("HTTP_CONTENT_TYPE", seen)

    def test_engine_in_process_that_is_slow_or_closed_is_told_apart(self):
        left = threading.Event()
        self.addCleanup(left.set)
        transport = hooks.WsgiTransport(lambda environ, start_response: left.wait(30) and [])
        with self.assertRaises(EngineTimeout):
            transport("POST", "/a", {}, b"", 0.05)
        left.set()
        transport.close()
        with self.assertRaises(EngineDown):
            transport("POST", "/a", {}, b"", 10)


if __name__ == "__main__":
    unittest.main()
