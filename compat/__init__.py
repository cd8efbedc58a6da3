"""The official SDKs' own test suites, run against this server. They are not part of `python -m unittest`.

Each command takes the path of a checked-out SDK repository, starts `python -m leanstorage serve` on a free port and a
temporary folder (or on LEANSTORAGE_TEST_POSTGRESQL), and prints which tests pass, fail, or need what is not supported.
"""
