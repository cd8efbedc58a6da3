"""The app's own work for a request over HTTP, on one thread: python bench/one_thread.py [--connections N] [--rounds N]

The server's loop, and what its threads would do, run in turn for a request of each connection. That leaves out how
threads wake each other, and with it most of the noise: other programs slow the median down, but hardly the fastest
round. The table shows the processor's time per request.
"""
import argparse
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.application import composed  # noqa: E402 after the path is set
from bench.load import request  # noqa: E402

PATHS = ("/api/client", "/")
TRUSTED = frozenset(["127.0.0.1", "::1"])


class OneThread:
    """A server, and clients of it, all on this thread."""

    def __init__(self, application, connections):
        from leanengine.server import create_server
        from leanwsgi.workers import listen

        listening = listen("127.0.0.1", 0)
        self.server = create_server(application, [listening], 0, 1 << 20, TRUSTED)
        self.pool = self.server.task_dispatcher._visitors
        self.pool._share = 12  # as with 16 threads
        port = listening.getsockname()[1]
        self.clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        while len(self.server.active_channels) < connections:
            self.turn()

    def turn(self):
        from leanwsgi.waitress_server import wasyncore

        wasyncore.poll2(0, self.server._map)

    def measure(self, data):
        """Seconds per request, of which one is made on each connection."""
        for client in self.clients:
            client.sendall(data)
        begun = time.thread_time()
        while len(self.pool.queue) < len(self.clients):
            self.turn()
        for _ in self.clients:
            with self.pool.lock:
                channel, visitor = self.pool._take()
            channel.service()
            if visitor is not None:
                self.pool._end(visitor)
        while any(channel.total_outbufs_len for channel in self.server.active_channels.values()):
            self.turn()
        used = time.thread_time() - begun
        for client in self.clients:
            if not client.recv(1 << 16).startswith(b"HTTP/1.1 200 "):
                raise RuntimeError("this is no answer")
        return used / len(self.clients)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        app = composed(data)
        try:
            one = OneThread(app.application, options.connections)
            print("| request, on one thread | fastest, µs | median, µs |\n|---|---|---|")
            for path in PATHS:
                times = [one.measure(request("GET", path)) for _ in range(options.rounds)]
                print(f"| {path} | {min(times) * 1e6:.1f} | {statistics.median(times) * 1e6:.1f} |")
        finally:
            app.parts.close()


if __name__ == "__main__":
    main()
