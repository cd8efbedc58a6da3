"""Plain WSGI, without any SDK: requests and responses, files, waitress, worker processes."""
try:
    import fcntl  # noqa: F401  the first of what only Unix has
except ImportError:
    raise SystemExit("this needs Linux or macOS: on Windows run it in WSL or Docker (docs/deploying.md)") from None
