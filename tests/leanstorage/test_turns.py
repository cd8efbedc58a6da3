"""Whose call the loop answers next."""
import json
import socket
import threading
import unittest
from contextlib import ExitStack
from unittest import mock

from leanstorage.http import turns
from leanstorage.http.turns import Turns
from tests.leanstorage.storage_support import StorageTestCase


class Channel:
    def __init__(self, name, visitor=None):
        self.name, self._visitor, self.connected = name, visitor, True
        self.requests, self.requests_lock = [mock.Mock()], threading.Lock()

    def visitor(self):
        return self._visitor


def names(found):
    return "".join(channel.name for channel in found)


class TurnsTest(unittest.TestCase):
    def setUp(self):
        self.turns = Turns()

    def add(self, *channels):
        for channel in channels:
            self.turns.add(channel)

    def test_each_visitor_has_one_call_in_turn_and_who_is_not_counted_one_a_connection(self):
        self.add(*(Channel(name, "A") for name in "abc"), Channel("x", "X"), Channel("1"), Channel("2"), Channel("y", "X"))
        self.assertEqual(len(self.turns), 7)
        self.assertEqual(names(self.turns.taken()), "ax12byc")
        self.assertFalse(self.turns)

    def test_what_there_is_no_time_for_keeps_its_place(self):
        with mock.patch.object(turns, "TURN_SECONDS", -1):
            self.add(*(Channel(name, "A") for name in "abc"))
            self.assertEqual(names(self.turns.taken()), "a")
            self.add(Channel("x", "X"))
            found = ""
            while self.turns:
                found += names(self.turns.taken())
        self.assertEqual(found, "bxc")

    def test_visitor_with_its_share_under_way_waits_and_others_do_not(self):
        many = [Channel(name, "A") for name in "abcd"]
        with mock.patch.object(turns, "MAX_UNDER_WAY", 2):
            self.add(*many, Channel("x", "X"))
            self.assertEqual(names(self.turns.taken()), "axb")
            self.assertFalse(self.turns)
            self.add(Channel("e", "A"))
            self.assertEqual(names(self.turns.taken()), "")
            self.turns.done(many[0])
            self.assertTrue(self.turns)
            self.assertEqual(names(self.turns.taken()), "c")
            for channel in (many[1], many[2], many[2]):  # the second word about one changes nothing
                self.turns.done(channel)
            self.assertEqual(names(self.turns.taken()), "de")

    def test_closed_connection_is_dropped_with_its_request(self):
        closed = Channel("a", "A")
        [request] = closed.requests
        self.add(closed, Channel("b", "A"))
        closed.connected = False
        self.assertEqual(names(self.turns.taken()), "b")
        self.assertEqual(closed.requests, [])
        request.close.assert_called_once()


class FloodTest(StorageTestCase):
    def test_one_call_is_answered_behind_one_of_each_other_visitor_whatever_they_send(self):
        storage = self.start()
        server, keys = storage._server, storage.keys
        head = f"Host: x\r\nX-LC-Id: {keys['id']}\r\nX-LC-Key: {keys['key']}\r\nContent-Type: application/json\r\n"
        storage.request("POST", "/classes/Item", {"n": 1})
        for method, path, body in (("GET", "/1.1/classes/Item", b""), ("POST", "/1.1/classes/Item", json.dumps({"n": 2}).encode())):
            request = f"{method} {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            with self.subTest(method), ExitStack() as opened:

                def connect(address):
                    connection = opened.enter_context(socket.create_connection(("127.0.0.1", server.port), 20, (address, 0)))  # noqa: B023
                    self.answered(connection, request)  # noqa: B023 it is accepted once that is answered
                    return connection

                flood, one = [connect("127.0.0.2") for _ in range(30)], connect("127.0.0.3")
                order, kind = [], type(server._dispatcher._quick)
                begun = kind.begun

                def noted(quick, environ):
                    order.append(environ["REMOTE_ADDR"])  # noqa: B023
                    return begun(quick, environ)  # noqa: B023

                stopped, go_on = threading.Event(), threading.Event()
                with mock.patch.object(kind, "begun", noted):
                    server.call_soon(lambda: (stopped.set(), go_on.wait(20)))  # noqa: B023
                    self.assertTrue(stopped.wait(20))
                    for connection in (*flood, one):
                        connection.sendall(request)
                    go_on.set()
                    for connection in (*flood, one):
                        self.answered(connection)
                self.assertLessEqual(order.index("127.0.0.3"), 1, order)

    def answered(self, connection, request=b""):
        connection.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(1 << 16)
        head, _, rest = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(rest) < length:
            rest += connection.recv(1 << 16)
        self.assertIn(head.split()[1], (b"200", b"201"))
