"""No answer tells B what only A may see: random calls in two worlds that differ in nothing else, a few numbers of them."""
import unittest
from unittest import mock

from leanstorage.resources import queries
from tests.leanstorage import two_worlds


class TwoWorldsTest(unittest.TestCase):
    def test_nobody_tells_worlds_apart_by_what_only_somebody_else_may_see(self):
        for seed in (1, 2):
            with self.subTest(seed=seed):
                self.assertGreater(two_worlds.play(seed, steps=100), 50)

    def test_leak_is_found(self):
        with mock.patch.object(queries, "_without_hidden_owners", lambda transaction, node, principals: node):
            with self.assertRaisesRegex(AssertionError, "tells the worlds apart"):
                two_worlds.play(1, steps=100)


if __name__ == "__main__":
    unittest.main()
