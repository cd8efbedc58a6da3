"""Tests of what stands around the SDK, which reads its keys when it is imported: the app is composed before."""
import wsgi  # noqa: F401
