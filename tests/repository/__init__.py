"""Checks of this repository: the app is composed before any of them imports the SDK, which reads its keys when it is imported."""
import wsgi  # noqa: F401
