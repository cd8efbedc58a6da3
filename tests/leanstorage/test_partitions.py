"""`objects` partitioned by its operator, as docs/scaling.md says: the store contract holds, and so do indexes."""
import re
import unittest
from unittest import mock

from leanstorage.store import Condition, Query, open_store
from tests.leanstorage import service_support
from tests.leanstorage.service_support import SERVER, ServiceTestCase
from tests.leanstorage.store_contract import StoreContract, row
from tests.support import ROOT

PARTS = 4
OPEN_DATABASE = service_support.open_database


def partitioned():
    """(URL of a database with the tables of docs/scaling.md, a function that drops it again)."""
    import psycopg

    text = (ROOT / "docs" / "scaling.md").read_text()
    recipe = re.search(r"```sql\n(CREATE TABLE objects .*?)```", text, re.DOTALL).group(1)
    url, drop = OPEN_DATABASE(None)
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(recipe)
    return url, drop


@unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
class ContractTest(StoreContract, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        url, drop = partitioned()
        cls.addClassCleanup(drop)
        cls.store = open_store(url)
        cls.addClassCleanup(cls.store.close)

    def test_objects_lie_in_all_parts(self):
        self.fill("Spread", *[row(f"s{n}", n) for n in range(100)])
        found = self.read(lambda transaction: transaction.execute("SELECT DISTINCT tableoid::bigint FROM objects"))
        self.assertEqual(len(found), PARTS)


@unittest.skipUnless(SERVER, "LEANSTORAGE_TEST_POSTGRESQL names no PostgreSQL server")
class IndexTest(ServiceTestCase):
    @classmethod
    def setUpClass(cls):
        with mock.patch.object(service_support, "open_database", lambda folder: partitioned()):
            super().setUpClass()

    def fill(self, class_name):
        self.make(class_name, state="s0", tags=["a"], at={"__type": "GeoPoint", "latitude": 1, "longitude": 1})
        items = [{"method": "POST", "path": f"/1.1/classes/{class_name}", "body": {"state": f"s{n}"}} for n in range(1, 100)]
        for start in range(0, len(items), 50):
            self.api("POST", "/batch", {"requests": items[start : start + 50]}, 200, master=True)

    def names(self, kind):
        table = {"index": "pg_class WHERE relkind IN ('i', 'I') AND relname", "figures": "pg_statistic_ext WHERE stxname"}[kind]
        return self.service.store.read(lambda transaction: transaction.execute(f"SELECT 1 FROM {table} LIKE '{kind}\\_%'"))

    def test_index_is_made_in_every_part_used_and_dropped_again(self):
        self.fill("Job")
        for keys in (["state"], ["tags"], ["at"]):
            with self.subTest(keys):
                for _ in range(2):  # one that is there is no fault
                    self.assertEqual(self.run_index("Job", *keys)[0], 0)
                self.assertEqual(len(self.names("index")), PARTS + 1)
                if keys == ["state"]:
                    self.assertEqual([found["state"] for found in self.find("Job", {"state": "s7"})], ["s7"])
                    self.assertIn("index_", self.plan({"state": "s7"}))
                code, said = self.run_index("Job", *keys, "--drop")
                self.assertEqual((code, self.names("index"), self.names("figures")), (0, [], []), said)

    def plan(self, where):
        query = Query("Job", Condition("eq", ("state",), where["state"]), limit=20)

        def work(transaction):
            transaction.execute("SET LOCAL enable_seqscan = off")
            text, params = transaction.compiler(transaction.known).select(query, ("o.id", []))
            return transaction.execute("EXPLAIN " + text, params)

        return "\n".join(line for line, in self.service.store.write(work))

    def test_equal_values_are_refused_by_a_unique_index_across_parts(self):
        self.fill("Single")
        self.assertEqual(self.run_index("Single", "state", "--unique")[0], 0)
        self.code(137, "POST", "/classes/Single", {"state": "s7"})
        self.run_index("Single", "state", "--drop")


if __name__ == "__main__":
    unittest.main()
