"""Whether a storage that is told to end under load answers what has come: python bench/end.py [ENDS]

Sixteen clients write as fast as they can; at some moment SIGTERM. What was sent before it must be answered, what was
answered 201 be stored, and the process end with 0, soon and without a traceback.
"""
import argparse
import json
import random
import re
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.load import request  # noqa: E402 after the path is set
from bench.servers import KEYS  # noqa: E402
from tests.support import free_port, running  # noqa: E402

HEADERS = {"X-LC-Id": "bench", "X-LC-Key": "key", "Content-Type": "application/json"}
CLIENTS = 16
SENT_SECONDS = 0.001  # before the signal, for what may be said to have been sent before it


def write(port, stored, unanswered):
    """Create objects until the connection ends; note the ids, and when the request was sent that got no answer."""
    data = request("POST", "/1.1/classes/End", HEADERS, b'{"n":1}')
    with socket.create_connection(("127.0.0.1", port), 15) as connection:
        while True:
            sent, answer = time.monotonic(), b""
            try:
                connection.sendall(data)
                while not answer.endswith(b"}") and (piece := connection.recv(1 << 16)):
                    answer += piece
            except OSError:
                pass
            if not answer.endswith(b"}"):
                unanswered.append(sent)
                return
            if answer.startswith(b"HTTP/1.1 201"):
                stored.append(json.loads(answer.partition(b"\r\n\r\n")[2])["objectId"])
            if re.search(rb"(?i)\r\nconnection: close", answer):
                return


def end():
    """(writes answered, problems) of one storage's life."""
    port, stored, unanswered, problems = free_port(), [], [], []
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "leanstorage", "serve", "--port", str(port), "--max-requests", "0"]
        with running(command, "data: ", LEANSTORAGE_DATA=data, **KEYS) as process:
            clients = [threading.Thread(target=write, args=[port, stored, unanswered]) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            time.sleep(random.uniform(0.3, 0.8))
            told = time.monotonic()
            process.send_signal(signal.SIGTERM)
            code = process.wait(15)
            seconds = time.monotonic() - told
            for client in clients:
                client.join()
            said = process.stdout.read() or b""
        with sqlite3.connect(Path(data, "leanstorage.db")) as database:
            kept = {row[0] for row in database.execute("SELECT id FROM objects WHERE class = 'End'")}
        database.close()
    if code or b"Traceback" in said or seconds > 7:
        problems.append(f"ended with {code} after {seconds:.1f} s: {said.decode()[-500:]}")
    if len(set(stored)) < len(stored) or set(stored) - kept:
        problems.append(f"{len(stored)} answered, {len(set(stored))} different ones, {len(set(stored) - kept)} not stored")
    if lost := sum(sent < told - SENT_SECONDS for sent in unanswered):
        problems.append(f"{lost} sent before the signal and not answered")
    return len(stored), problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ends", type=int, nargs="?", default=20)
    options = parser.parse_args()
    writes, problems = 0, []
    for number in range(options.ends):
        answered, found = end()
        writes += answered
        problems += [f"end {number}: {problem}" for problem in found]
    print(*problems, f"{options.ends} ends, {writes} acknowledged writes, {len(problems)} problems", sep="\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
