"""Routing: (method, template) -> function. It knows nothing of any application.

A template is a path whose segments are literals, `<name>` (one segment, never empty) or, at its end,
`<name:path>` (the rest of the path, one segment or more). For one table of routes:

- a literal beats a parameter, whatever the order of the table, and also beside a longer path;
- the same route twice, or two names for one parameter, raises RouteConflict when the table is built;
- HEAD runs the GET route, OPTIONS answers 204 with `Allow`, a known path with another method is a 405 with `Allow`;
- segments are compared whole, so a trailing slash or newline and a doubled slash are other paths.
"""
import re
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

from leanwsgi import messages

Handler = Callable[..., messages.Response]  # (environ, **path parameters)

PARAMETER = re.compile(r"<([a-z_]+)(:path)?>")


class RouteConflict(ValueError):
    """Two routes of a table cannot be told apart, or a template is malformed."""


class _Node:
    """One level of the tree: what may follow the segments that led here."""

    __slots__ = ("literals", "parameter", "name", "rest", "methods", "rest_name")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}  # segment -> _Node
        self.parameter: _Node | None = None  # _Node for any segment, bound to `name`
        self.name = ""
        self.rest: dict[str, Handler] = {}  # method -> function, for a `<name:path>` from here on
        self.rest_name = ""
        self.methods: dict[str, Handler] = {}  # method -> function, for a path that ends here


class Router:
    """Finds the function of a request in a table of (method, template, function)."""

    def __init__(self, routes: Iterable[tuple[str, str, Handler]]) -> None:
        self._root = _Node()
        self._literal: dict[str, dict[str, Handler]] = {}  # whole path -> {method: function}: one look-up for routes without parameters
        for method, template, function in routes:
            self._add(method, template, function)

    def __call__(self, environ: WSGIEnvironment) -> messages.Response:
        """Run the function of this request and return its (status, headers, body).

        Raises messages.HTTPError: 400 for a path that is not UTF-8, 404, 405 with `Allow`.
        """
        function, parameters = self.match(environ["REQUEST_METHOD"], messages.path(environ))
        return function(environ, **parameters)

    def match(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """Return (function, {parameter: text}) for a method and a decoded path; raise HTTPError 404 or 405."""
        methods = self._literal.get(path)
        if methods is not None:
            function = methods.get(method)
            if function is not None:
                return function, {}
        segments = path.split("/")
        # The way of nearly every request: straight down, without keeping alternatives.
        node = self._root
        parameters: dict[str, str] = {}
        for index in range(1, len(segments)):
            segment = segments[index]
            following = node.literals.get(segment)
            if following is None:
                following = node.parameter
                if following is None or not segment:
                    break
                parameters[node.name] = segment
            node = following
        else:
            function = node.methods.get(method)
            if function is not None:
                return function, parameters
        return self._search(method, segments)

    def _search(self, method: str, segments: list[str]) -> tuple[Handler, dict[str, str]]:
        """The thorough way: every template that fits, best first, with HEAD, OPTIONS and misses."""
        allowed: set[str] = set()
        wanted = ("HEAD", "GET") if method == "HEAD" else (method,)
        for methods, parameters in _walk(self._root, segments, 1, {}):
            for name in wanted:
                if name in methods:
                    return methods[name], parameters
            allowed.update(methods)
        if not allowed:
            raise messages.HTTPError(HTTPStatus.NOT_FOUND, "there is nothing at this path")
        allowed.add("OPTIONS")
        if "GET" in allowed:
            allowed.add("HEAD")
        allow = ("Allow", ", ".join(sorted(allowed)))
        if method == "OPTIONS":
            return lambda environ, **_: (HTTPStatus.NO_CONTENT, [allow], b""), {}
        raise messages.HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, "this path has no such method", headers=[allow])

    def _add(self, method: str, template: str, function: Handler) -> None:
        if not template.startswith("/"):
            raise RouteConflict(f"{template!r} does not start with a slash")
        segments = template.split("/")[1:]
        node = self._root
        names: set[str] = set()
        for position, segment in enumerate(segments):
            found = PARAMETER.fullmatch(segment)
            if found is None:
                if "<" in segment or ">" in segment:
                    raise RouteConflict(f"{segment!r} in {template!r} is neither a literal nor a parameter")
                node = node.literals.setdefault(segment, _Node())
                continue
            name, is_path = found.groups()
            if name in names:
                raise RouteConflict(f"{template!r} has <{name}> twice")
            names.add(name)
            if is_path:
                if position != len(segments) - 1:
                    raise RouteConflict(f"<{name}:path> is not at the end of {template!r}")
                if node.rest_name not in ("", name):
                    raise RouteConflict(f"{template!r} renames <{node.rest_name}:path>")
                node.rest_name = name
                _put(node.rest, method, function, template)
                return
            if node.name not in ("", name):
                raise RouteConflict(f"{template!r} calls a parameter <{name}> that another route calls <{node.name}>")
            node.name = name
            node.parameter = node.parameter or _Node()
            node = node.parameter
        _put(node.methods, method, function, template)
        if not names:
            self._literal[template] = node.methods


class Application:
    """The WSGI callable around a router: every answer of a handler goes out here.

    `explain(error, environ)` turns an exception into (status, headers, body).
    """

    def __init__(self, respond: Callable[[WSGIEnvironment], messages.Response], explain: messages.Explain | None = None) -> None:
        self.respond = respond
        self.explain = explain or messages.explain

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            status, headers, body = self.respond(environ)
        except Exception as error:
            status, headers, body = self.explain(error, environ)
        return messages.start(environ, start_response, (status, headers, body))


def _put(methods: dict[str, Handler], method: str, function: Handler, template: str) -> None:
    if method in methods:
        raise RouteConflict(f"{method} {template} is there twice, or differs from another route by names alone")
    methods[method] = function


def _walk(
    node: _Node, segments: list[str], index: int, parameters: dict[str, str]
) -> Iterator[tuple[dict[str, Handler], dict[str, str]]]:
    """Yield (methods, parameters) of each template that fits, literals before parameters before rests."""
    if index == len(segments):
        if node.methods:
            yield node.methods, parameters
        return
    segment = segments[index]
    if segment in node.literals:
        yield from _walk(node.literals[segment], segments, index + 1, parameters)
    if node.parameter is not None and segment:
        yield from _walk(node.parameter, segments, index + 1, {**parameters, node.name: segment})
    if node.rest and segment:
        yield node.rest, {**parameters, node.rest_name: "/".join(segments[index:])}
