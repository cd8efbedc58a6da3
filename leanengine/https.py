"""The guard around the SDK's HttpsRedirectMiddleware: redirects that keep the method and the URL."""
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from leancloud import HttpsRedirectMiddleware

from leanwsgi import messages


def guard_redirect(redirect: HttpsRedirectMiddleware) -> WSGIApplication:
    """The SDK's redirect without its faults.

    On its own it adds a `?` to every URL, answers 302 to a POST, which then arrives as a GET, and raises on a query that
    is not UTF-8. The Host header has been checked further out (middleware.bound).
    """
    application = redirect.origin_app

    def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["app.is_inside"] = True
        body: Iterable[bytes] = application(environ, start_response)
        return body

    redirect.origin_app = inner
    redirecting: WSGIApplication = redirect

    def redirected(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[messages.Header], exc_info: Any = None) -> Any:
            if environ.get("app.is_inside") or not status.startswith("302"):
                return start_response(status, headers, exc_info)
            code = "302 Found" if environ["REQUEST_METHOD"] in messages.SAFE_METHODS else "308 Permanent Redirect"
            kept = [header for header in headers if header[0].lower() not in ("location", "cache-control")]
            return start_response(code, [*kept, ("Location", _https_url(environ)), messages.PRIVATE], exc_info)

        messages.path(environ)  # the SDK would raise here; these two answer 400
        messages.check_query(environ)
        return redirecting(environ, start)

    return redirected


def _https_url(environ: WSGIEnvironment) -> str:
    host = environ.get("HTTP_HOST") or environ["SERVER_NAME"]
    path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"), safe="/:@!$&'()*+,;=~-._")
    if not path.startswith("/") or path.startswith("//"):
        path = "/" + path.lstrip("/")  # `//host` would be another host
    query = quote(environ.get("QUERY_STRING", "").encode("latin-1"), safe="/?:@!$&'()*+,;=~-._%")
    return f"https://{host.removesuffix(':80')}{path}" + (f"?{query}" if query else "")


