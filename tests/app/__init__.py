"""Tests of the app: composed before any of them imports the SDK, which reads its keys when it is imported."""
import wsgi  # noqa: F401
