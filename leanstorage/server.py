"""Serving the application with waitress, in the foreground or on a thread, with an end that leaves nothing behind."""
import json
import logging
import threading

from waitress import create_server
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import Error

from leanstorage.errors import Code

LINGER_SECONDS = 5  # for requests that are being answered when the server is told to stop
OVERHEAD_BYTES = 1 << 20
MAX_WAITING = 256  # requests in the queue; the next ones are refused at once instead of waiting without end


class Server:
    """A waitress server on a socket of its own; `port` 0 takes a free one. No body is longer than `max_bytes`."""

    def __init__(self, application, host, port, threads, max_bytes):
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line for every request that waits a moment
        self._map = {}
        dispatcher = Dispatcher()
        dispatcher.set_thread_count(threads)
        self._server = create_server(
            application,
            map=self._map,
            _dispatcher=dispatcher,
            host=host,
            port=port,
            threads=threads,
            connection_limit=1000,
            channel_timeout=60,
            # The application itself answers what is too large, in JSON.
            max_request_body_size=max_bytes + OVERHEAD_BYTES,
            ident=None,
            clear_untrusted_proxy_headers=False,
            asyncore_use_poll=True,
        )
        self.port = self._server.effective_port
        self._thread = None

    def run(self):
        """Serve until `stop` is called from another thread or a signal handler."""
        self._server.run()
        self._server.task_dispatcher.shutdown(timeout=LINGER_SECONDS)

    def start(self):
        self._thread = threading.Thread(target=self.run, name="leanstorage", daemon=True)
        self._thread.start()

    def stop(self):
        """End the loop: its sockets are closed on its own thread."""
        self._server.task_dispatcher.shutdown(cancel_pending=True, timeout=LINGER_SECONDS)
        self._server.trigger.pull_trigger(self._close_all)
        if self._thread is not None:
            self._thread.join(LINGER_SECONDS)

    def _close_all(self):
        for dispatcher in list(self._map.values()):
            dispatcher.close()


class Dispatcher(ThreadedTaskDispatcher):
    """waitress's pool of threads with a bounded queue; one thread more says 503 to those who find it full."""

    def __init__(self):
        super().__init__()
        self._refusing = ThreadedTaskDispatcher()

    def set_thread_count(self, count):
        super().set_thread_count(count)
        self._refusing.set_thread_count(1 if count else 0)

    def add_task(self, task):
        if len(self.queue) < MAX_WAITING or not task.requests:
            super().add_task(task)
        else:
            task.requests[0].error = Overloaded("too many requests are waiting")
            self._refusing.add_task(task)

    def shutdown(self, cancel_pending=True, timeout=LINGER_SECONDS):
        self._refusing.shutdown(cancel_pending, timeout)
        return super().shutdown(cancel_pending, timeout)


class Overloaded(Error):
    """waitress's form of an answer that no application made: the SDKs need it to be JSON."""

    code, reason = Code.UNAVAILABLE.status.value, Code.UNAVAILABLE.status.phrase

    def to_response(self, ident=None):
        body = json.dumps({"code": Code.UNAVAILABLE.number, "error": Code.UNAVAILABLE.text}).encode()
        headers = [
            ("Content-Length", str(len(body))),
            ("Content-Type", "application/json;charset=utf-8"),
            ("Access-Control-Allow-Origin", "*"),
            ("Retry-After", "1"),
        ]
        return f"{self.code} {self.reason}", headers, body
