"""The socket that a server listens on, and several worker processes that serve it."""
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence

NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)  # a machine without IPv6
RESTART_SECONDS = 1  # before a process is replaced: one that dies at once must not spin


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, on a free port for 0; raise OSError if the port is taken. Several processes may serve it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=1024)
    listening.setblocking(False)
    return listening


def listen_on(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """A listening socket for each host that this machine has, at least for the first; raise OSError if a port is taken."""
    found = [listen(hosts[0], port)]
    for host in hosts[1:]:
        try:
            found.append(listen(host, found[0].getsockname()[1]))
        except OSError as error:
            if error.errno not in NO_SUCH_ADDRESS:
                for listening in found:
                    listening.close()
                raise
    return found


def port_trouble(error: OSError, port: int, setting: str) -> str:
    """Why `port` cannot be listened on, in one line; `setting` is what chooses another one."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: end what listens there, or set {setting}"
    return f"port {port} cannot be listened on ({error.strerror}): set {setting}"


def share(number: int, run: Callable[[], None], sockets: Sequence[socket.socket]) -> None:
    """Run `run()` in this many forked processes until KeyboardInterrupt or SystemExit; one that ends by itself gets a successor.

    To be called before any thread is started. Returns when all have ended; `sockets`, on which they serve, are closed.
    """
    children: set[int] = set()
    try:
        while True:
            while len(children) < number:
                children.add(_fork(run))
            pid, status = os.wait()
            children.discard(pid)
            print(f"process {pid} ended with {os.waitstatus_to_exitcode(status)}: starting another", file=sys.stderr, flush=True)
            time.sleep(RESTART_SECONDS)
    except (KeyboardInterrupt, SystemExit):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for listening in sockets:  # as the workers do: new connections are refused instead of waiting
            listening.close()
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        for pid in children:
            os.waitpid(pid, 0)


def _fork(run: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run()
        status = 0
    except (KeyboardInterrupt, SystemExit):
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what the parent registered to be done at its end is not this process's to do
