"""No answer tells B what only A may see: random calls in two worlds that differ in nothing else, a few numbers of them."""
import unittest
from unittest import mock

from leanstorage.resources import queries
from leanstorage.rules import hidden
from tests.leanstorage import two_worlds


class TwoWorldsTest(unittest.TestCase):
    def test_nobody_tells_worlds_apart_by_what_only_somebody_else_may_see(self):
        for seed in (1, 2):
            with self.subTest(seed=seed):
                self.assertGreater(two_worlds.play(seed, steps=100), 50)

    def test_leak_is_found(self):
        for place, name, leaking, seed, found in (
            (queries, "_without_hidden_owners", lambda transaction, node, principals: node, 2, "tells the worlds apart"),
            (hidden, "check_query", lambda transaction, query: None, 5, "tells the worlds apart"),
            (hidden, "columns_for", lambda call, info: hidden.NONE, 1, "shows what only A may see"),
        ):
            with self.subTest(name), mock.patch.object(place, name, leaking):
                with self.assertRaisesRegex(AssertionError, found):
                    two_worlds.play(seed, steps=100)


if __name__ == "__main__":
    unittest.main()
