"""Tests of plain WSGI, some in the app's server: it is composed before the SDK is imported, which reads its keys then."""
import wsgi  # noqa: F401
