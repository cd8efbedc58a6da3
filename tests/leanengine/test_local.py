"""What stands in for a platform says in one line that it is not there, and does not hide any other fault."""
import sys
import types
import unittest
from unittest import mock

from leanengine.local import LocalServices
from leanengine.settings import PLATFORM_VARIABLES


class WithoutStorageTest(unittest.TestCase):
    def test_missing_storage_is_one_line_that_names_the_variables(self):
        with mock.patch.dict(sys.modules, {"leanstorage": None}), self.assertRaises(SystemExit) as caught:
            LocalServices(None, False)
        for name in PLATFORM_VARIABLES:
            self.assertIn(name, str(caught.exception))

    def test_missing_package_of_the_storage_is_told_by_its_own_name(self):
        broken = types.ModuleType("leanstorage")
        broken.__path__ = []
        with (
            mock.patch.dict(sys.modules, {"leanstorage": broken, "leanstorage.embedded": None}),
            self.assertRaisesRegex(ModuleNotFoundError, "leanstorage.embedded"),
        ):
            LocalServices(None, False)
