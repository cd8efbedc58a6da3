"""A database with several hosts in its URL, one of which serves at a time: `postgresql://HOST,HOST/NAME?...`."""
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

CONNECT_SECONDS = 2  # for each of several hosts; the least that libpq allows


def _pairs(settings: dict[str, Any]) -> list[tuple[str, str]]:
    hosts = str(settings.get("host") or "").split(",")
    ports = str(settings.get("port") or "").split(",")
    return list(zip(hosts, ports if len(ports) == len(hosts) else ports[:1] * len(hosts)))


def are_several(conninfo: str) -> bool:
    return len(_pairs(conninfo_to_dict(conninfo))) > 1


def with_last(conninfo: str, host: str, port: str) -> str:
    """The same hosts, this one tried last; what has one host stays as it is."""
    settings = conninfo_to_dict(conninfo)
    pairs = _pairs(settings)
    first = [pair for pair in pairs if pair != (host, port)]
    if len(pairs) < 2 or len(first) == len(pairs):
        return conninfo
    ordered = [*first, (host, port)]
    return make_conninfo(conninfo, host=",".join(host for host, _ in ordered), port=",".join(port for _, port in ordered))
