"""The app and the storage as processes of their own, over real HTTP."""
from pathlib import Path

import requests

from tests.support import free_port, python, running, until

# A storage's keys, as the environment of its process has them.
KEYS = {
    "LEANCLOUD_APP_ID": "theid",
    "LEANCLOUD_APP_KEY": "thekey",
    "LEANCLOUD_APP_MASTER_KEY": "themaster",
    "LEANCLOUD_APP_HOOK_KEY": "thehook",
}
READY = "cache: "  # what the app says last before it serves


class Http:
    """A browser's view of a running app."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"
        self.session = requests.Session()
        self.session.trust_env = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.close()

    def __call__(self, method, path, **more):
        return self.session.request(method, self.url + path, timeout=20, **more)

    def sign_up(self, username):
        return self("POST", "/api/users", json={"username": username, "password": "secret"})


def wait_for(browser):
    def is_up():
        try:
            return browser("GET", "/__engine/1/ping").status_code == 200
        except requests.ConnectionError:
            return False

    until(is_up, 15)


def redis_servers(data):
    """Command lines of the Redis servers of a data folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes()
        except OSError:
            continue
        if b"redis-server" in line and str(Path(data).resolve()).encode() in line:
            found.append(line)
    return found


class storage:
    """`python -m leanstorage serve` in a process of its own; gives (the variables an app needs, a port for its engine)."""

    def __init__(self, data, engine=False):
        self.data, self.port, self.engine_port = data, free_port(), free_port()
        self.arguments = ["-m", "leanstorage", "serve", "--port", str(self.port)]
        if engine:
            self.arguments += ["--engine", f"http://127.0.0.1:{self.engine_port}"]

    def __enter__(self):
        from leanstorage import embedded

        keys = {**embedded.load_keys(self.data), "LEANCLOUD_API_SERVER": f"http://127.0.0.1:{self.port}"}
        self.start_again()
        return keys, self.engine_port

    def start_again(self):
        self.running = running(python(*self.arguments), "listens on", LEANSTORAGE_DATA=self.data)
        self.process = self.running.__enter__()

    def kill(self):
        self.process.kill()
        self.running.__exit__(None, None, None)

    def __exit__(self, *error):
        return self.running.__exit__(*error)
