"""GET /metrics: what Prometheus reads, in its text format. Names begin with `leanstorage_`, times are in seconds."""
import os
import resource
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from leanstorage.blobs.folder import FolderBlobs
from leanstorage.http.observer import BUCKETS, Observer, Times
from leanstorage.http.server import Server
from leanstorage.operator.health import Health
from leanstorage.operator.sizes import database_bytes
from leanstorage.rules.call import Service

Labels = dict[str, object]
Values = Sequence[tuple[Labels, float]]
Row = tuple[Labels, list[int], float]  # of a histogram: its labels, its counts by bucket, its sum
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(service: Service, server: Server, observer: Observer, health: Health) -> bytes:
    """All of them."""
    lines = [*_requests(observer), *_serving(server, observer, health), *_sizes(service)]
    return ("\n".join(lines) + "\n").encode()


def _requests(observer: Observer) -> Iterator[str]:
    with observer.lock:  # copied, so that requests wait for no formatting
        requests = [_row(("method", "route", "status"), key, times) for key, times in observer.requests.items()]
        engine = [_row(("call", "outcome"), key, times) for key, times in observer.engine.items()]
        refused, sent = sorted(observer.refused.items()), observer.bytes_sent
    yield from _histogram("request_seconds", "Requests that were answered, by route.", sorted(requests, key=str))
    yield from _histogram("engine_seconds", "Calls of the app's hooks and functions.", sorted(engine, key=str))
    yield from _metric("response_bytes_total", "counter", "Bytes of answers, without headers.", [({}, sent)])
    help_text = "Requests refused before they reached a route: malformed, too large, or more than can wait (503)."
    yield from _metric("refused_total", "counter", help_text, [({"status": status}, count) for status, count in refused])


def _row(names: Sequence[str], key: Sequence[object], times: Times) -> Row:
    return dict(zip(names, key, strict=True)), list(times.counts), times.seconds


def _serving(server: Server, observer: Observer, health: Health) -> Iterator[str]:
    troubles = health.troubles()
    pool = server.pool
    up: Values = [({"part": name}, int(trouble is None)) for name, trouble in troubles.items()]
    yield from _metric("up", "gauge", "Whether a part answers, as in /health.", up)
    yield from _metric("loop_lag_seconds", "gauge", "How long the loop let a function wait, last time.", [({}, health.loop_lag)])
    yield from _metric("connections", "gauge", "Open connections of clients.", [({}, server.connections)])
    yield from _metric("threads", "gauge", "Threads for requests that wait.", [({}, len(pool.threads))])
    yield from _metric("threads_busy", "gauge", "Those that have a request.", [({}, pool.busy)])
    yield from _metric("queue_length", "gauge", "Requests that wait for a thread.", [({}, len(pool.queue))])


def _sizes(service: Service) -> Iterator[str]:
    found: Values
    try:
        found = [({}, database_bytes(service.store))]
    except Exception:  # it is down, which /health and `up` say
        found = []
    yield from _metric("database_bytes", "gauge", "Size of the database.", found)
    if isinstance(service.blobs, FolderBlobs) and service.blobs.folder.exists():
        free = shutil.disk_usage(service.blobs.folder).free
        yield from _metric("files_free_bytes", "gauge", "Free space on the disk of the files.", [({}, free)])
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield from _metric("process_cpu_seconds_total", "counter", "Processor time of this process.", [({}, usage.ru_utime + usage.ru_stime)])
    statm, files = Path("/proc/self/statm"), Path("/proc/self/fd")
    if statm.exists():  # Linux
        resident = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        yield from _metric("process_resident_bytes", "gauge", "Memory of this process.", [({}, resident)])
        yield from _metric("process_open_files", "gauge", "Open files and sockets.", [({}, len(os.listdir(files)))])


def _metric(name: str, kind: str, help_text: str, values: Values) -> Iterator[str]:
    yield f"# HELP leanstorage_{name} {help_text}"
    yield f"# TYPE leanstorage_{name} {kind}"
    for labels, value in values:
        yield f"leanstorage_{name}{_labels(labels)} {value}"


def _histogram(name: str, help_text: str, rows: Iterable[Row]) -> Iterator[str]:
    yield f"# HELP leanstorage_{name} {help_text}"
    yield f"# TYPE leanstorage_{name} histogram"
    for labels, counts, seconds in rows:
        total = 0
        for bound, count in zip([*BUCKETS, "+Inf"], counts, strict=True):
            total += count
            yield f"leanstorage_{name}_bucket{_labels({**labels, 'le': bound})} {total}"
        yield f"leanstorage_{name}_sum{_labels(labels)} {seconds:.6f}"
        yield f"leanstorage_{name}_count{_labels(labels)} {total}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
