"""The operator's own listener: GET /health and GET /metrics, never on the API's port."""
import socket
import threading
from collections.abc import Iterable
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from leanstorage.http.inline_calls import Quick
from leanstorage.http.observer import Observer
from leanstorage.http.server import Server
from leanstorage.operator import health, metrics
from leanstorage.rules.call import Service
from leanwsgi import messages, waitress_server
from leanwsgi.workers import listen, port_trouble

THREADS = 2
MAX_BYTES = 1 << 16  # of a request


def check_admin(place: tuple[str, int], api_port: int, processes: int = 1) -> None:
    """Raise OSError or ValueError unless every process can have its port."""
    host, first = place
    if first <= api_port < first + processes:
        raise ValueError("--admin must not be on the port of the API, counted up for several processes")
    for port in range(first, first + processes) if first else ():
        _listen(host, port).close()


def open_admin(place: tuple[str, int], processes: int = 1) -> socket.socket:
    """A listening socket at `place`, or for one of several processes on one of the ports that follow; raise OSError.

    Each process binds its own: when it ends, its successor gets the port.
    """
    host, first = place
    for port in range(first, first + processes - 1) if first else ():
        try:
            return listen(host, port)
        except OSError:  # another process has it
            continue
    return _listen(host, first and first + processes - 1)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        raise OSError(port_trouble(error, port, "--admin")) from None


class Admin:
    """Serves on a thread from `start` to `close`."""

    def __init__(self, service: Service, server: Server, quick: Quick, observer: Observer, listening: socket.socket) -> None:
        self.health = health.Health(service, server, quick)
        pool = waitress_server.Pool()
        pool.set_thread_count(THREADS)
        application = create_admin(service, server, observer, self.health)
        self._server = waitress_server.create_server(application, [listening], pool, max_request_body_size=MAX_BYTES)
        self._thread = threading.Thread(target=waitress_server.run, args=[self._server], name="admin", daemon=True)

    def start(self) -> None:
        self.health.start()
        self._thread.start()

    def close(self) -> None:
        waitress_server.stop(self._server)
        self._thread.join(waitress_server.LINGER_SECONDS)
        self.health.close()


def create_admin(service: Service, server: Server, observer: Observer, parts: health.Health) -> WSGIApplication:
    """The WSGI application of the listener."""

    def answer(environ: WSGIEnvironment) -> messages.BytesResponse:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            raise messages.HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, "this path has no such method", headers=[("Allow", "GET, HEAD")])
        if environ["PATH_INFO"] == "/health":
            return health.report(parts.troubles())
        if environ["PATH_INFO"] == "/metrics":
            body = metrics.text(service, server, observer, parts)
            return HTTPStatus.OK, [("Content-Type", metrics.CONTENT_TYPE), messages.PRIVATE], body
        raise messages.HTTPError(HTTPStatus.NOT_FOUND, "there is nothing at this path but /health and /metrics")

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            response = answer(environ)
        except Exception as error:
            response = messages.explain(error, environ)
        return messages.start(environ, start_response, response)

    return application
