"""Every call that an official SDK makes, collected from the sources in sdk_calls.tsv, held against the routes of the API."""
import csv
import itertools
import re
import unittest
from pathlib import Path

from leanstorage.http import refused
from leanstorage.http.application import ELSEWHERE
from leanstorage.http.route_table import RouteTable
from leanstorage.http.routes import EVERY_ROUTE, ROUTES
from leanstorage.rules import values
from leanwsgi.messages import HTTPError
from tests.support import ROOT

TABLE = Path(__file__).with_name("sdk_calls.tsv")
LITERAL = {"self"}  # that a parameter of a route takes as it stands
OF_THE_ENGINE = {("GET", "/functions/_ops/metadatas")}  # asked of the app, by this server too
CLIENTS = ROOT / "docs" / "clients.md"


def calls():
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def placed(path):
    """A path with something of its own for each of its parameters."""
    numbers = itertools.count()
    if path.startswith(ELSEWHERE):
        path = path.removeprefix("/storage/1.1")
    return re.sub("<[a-z]+>", lambda _: f"placeholder{next(numbers)}", path)


def kind(routes, refusing, row):
    """`served`, `refused`, or None for a call that no route is for."""
    path = placed(row["path"])
    try:
        _, parameters = routes.match(row["method"], path)
    except HTTPError:
        return None
    for name, value in parameters.items():
        if name == "class_name":
            values.check_class_name(value)
        elif name != "path" and value not in LITERAL and not value.startswith("placeholder"):
            return None  # a name of the API that a parameter of another call has swallowed; `path` is refused whole
    try:
        refusing.match(row["method"], path)
    except HTTPError:
        return "served"
    return "refused"


class CallsTest(unittest.TestCase):
    def setUp(self):
        routes, refusing = RouteTable(EVERY_ROUTE), RouteTable(refused.ROUTES)
        self.rows = calls()
        self.kinds = [kind(routes, refusing, row) for row in self.rows]

    def test_every_call_is_served_or_refused_in_words(self):
        for row, found in zip(self.rows, self.kinds, strict=True):
            if (row["method"], row["path"]) not in OF_THE_ENGINE:
                with self.subTest(sdk=row["sdk"], call=f"{row['method']} {row['path']}"):
                    self.assertIn(found, ("served", "refused"))
        self.assertGreater(self.kinds.count("served"), 250)
        self.assertGreater(self.kinds.count("refused"), 100)

    def test_call_that_no_route_is_for_is_told_from_one_that_there_is(self):
        routes, refusing = RouteTable(ROUTES), RouteTable(refused.ROUTES)
        rows = {
            ("GET", "/classes/<class>/<id>"): "served",
            ("POST", "/push"): None,
            ("GET", "/users/self/friendship/<id>"): None,
            ("POST", "/users/self/friendship/<id>"): "served",
            ("GET", "/users/unknownQuery"): None,
            ("GET", "/nothing"): None,
        }
        for (method, path), wanted in rows.items():
            self.assertEqual(kind(routes, refusing, {"method": method, "path": path}), wanted, path)

    def test_document_counts_the_calls_of_each_client(self):
        text = CLIENTS.read_text()
        for sdk in sorted({row["sdk"] for row in self.rows}):
            own = [found for row, found in zip(self.rows, self.kinds, strict=True) if row["sdk"] == sdk]
            with self.subTest(sdk):
                self.assertRegex(text, rf"\| `{sdk}` \|[^|]+\| {len(own)} \| {own.count('refused')} \|")


if __name__ == "__main__":
    unittest.main()
