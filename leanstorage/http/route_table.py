"""The fixed table of routes, resolved for a path of the API: for a request, or for one call inside a batch.

Templates begin with a literal. A literal beats a parameter; `<name>` is one segment, never empty, `<name:path>` the rest.
"""
from collections.abc import Iterable

from leanstorage.rules.call import Resource, Route
from leanwsgi.messages import HTTPError
from http import HTTPStatus

Found = tuple[Resource, dict[str, str]]


class Methods(dict[str, Resource]):
    """The functions of one template, by method."""

    def __init__(self, template: str) -> None:
        super().__init__()
        self.template = template
        # (place, name of a parameter or "", literal) of each segment behind the first, which is a literal.
        parts = list(enumerate(template.split("/")))[2:]
        self.parts = [(place, part[1:-1], "") if part.startswith("<") else (place, "", part) for place, part in parts]


class RouteTable:
    """Finds the resource function of (method, path) in a list of routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._literal: dict[str, Methods] = {}
        self._templates: dict[tuple[str, int], list[tuple[list[str], Methods]]] = {}  # by first segment and length
        self._rests: dict[str, Methods] = {}  # by what stands before `<path:path>`
        for method, template, function in routes:
            self._methods(template)[method] = function

    def match(self, method: str, path: str) -> Found:
        """(function, parameters); raise HTTPError 404, or 405 with `Allow`."""
        function, parameters, _ = self.find(method, path)
        return function, parameters

    def find(self, method: str, path: str) -> tuple[Resource, dict[str, str], str]:
        """(function, parameters, template); raises as `match`."""
        allowed: set[str] = set()
        wanted = "GET" if method == "HEAD" else method
        for methods, parameters in self._fitting(path):
            if wanted in methods:
                return methods[wanted], parameters, methods.template
            allowed |= methods.keys()
        if not allowed:
            raise HTTPError(HTTPStatus.NOT_FOUND, "there is nothing at this path")
        if "GET" in allowed:
            allowed.add("HEAD")
        allow = ("Allow", ", ".join(sorted(allowed | {"OPTIONS"})))
        raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, "this path has no such method", headers=[allow])

    def _methods(self, template: str) -> Methods:
        if "<" not in template:
            return self._literal.setdefault(template, Methods(template))
        if template.endswith("/<path:path>"):
            return self._rests.setdefault(template.removesuffix("<path:path>"), Methods(template))
        segments = template.split("/")
        alike = self._templates.setdefault((segments[1], len(segments)), [])
        for known, methods in alike:
            if known == segments:
                return methods
        alike.append((segments, Methods(template)))
        # Literals before parameters: "<" sorts by what is compared here, not by the alphabet.
        alike.sort(key=lambda row: [segment.startswith("<") for segment in row[0]])
        return next(methods for known, methods in alike if known == segments)

    def _fitting(self, path: str) -> Iterable[tuple[Methods, dict[str, str]]]:
        if path in self._literal:
            yield self._literal[path], {}
        segments = path.split("/")
        for _, methods in self._templates.get((segments[1] if len(segments) > 1 else "", len(segments)), ()):
            parameters = {}
            for place, name, literal in methods.parts:
                segment = segments[place]
                if name and segment:
                    parameters[name] = segment
                elif name or segment != literal:
                    break
            else:
                yield methods, parameters
        for prefix, methods in self._rests.items():
            if path.startswith(prefix) and path[len(prefix) :].split("/")[0]:
                yield methods, {"path": path[len(prefix) :]}
