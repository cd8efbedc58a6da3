"""Serving the application with waitress, in the foreground or on a thread, with an end that leaves nothing behind."""
import threading

from waitress import create_server

from leanstorage.service import MAX_BODY_BYTES

LINGER_SECONDS = 5  # for requests that are being answered when the server is told to stop
OVERHEAD_BYTES = 1 << 20


class Server:
    """A waitress server on a socket of its own; `port` 0 takes a free one."""

    def __init__(self, application, host, port, threads, max_upload_bytes):
        self._map = {}
        self._server = create_server(
            application,
            map=self._map,
            host=host,
            port=port,
            threads=threads,
            connection_limit=1000,
            channel_timeout=60,
            # The application itself answers what is too large, in JSON; uploads have a limit of their own.
            max_request_body_size=max(MAX_BODY_BYTES, max_upload_bytes) + OVERHEAD_BYTES,
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
