"""An engine on a URL of its own. Apart from hooks.py, as requests would be a quarter of what a start without `--engine` costs."""
import re

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError

from leanstorage.engine.hooks import MAX_THREADS, EngineDown, EngineTimeout
from leanwsgi.answers import bound_answers

CONNECT_SECONDS = 3
CHUNK_BYTES = 1 << 16
MAX_ANSWER_BYTES = 64 << 20


class HttpTransport:
    """An engine on a URL of its own."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.name = "the engine at " + re.sub("//[^/]*@", "//", self.url)
        self.session = requests.Session()
        self.session.trust_env = False
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=MAX_THREADS)
        bound_answers(adapter)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)

    def __call__(
        self, method: str, path: str, headers: dict[str, str], body: bytes, timeout: float
    ) -> tuple[int, bytes]:
        limits = min(CONNECT_SECONDS, timeout), timeout
        try:
            with self.session.request(
                method, self.url + path, headers=headers, data=body, timeout=limits, allow_redirects=False, stream=True
            ) as answer:
                data = bytearray()
                for piece in answer.iter_content(CHUNK_BYTES):
                    data += piece
                    if len(data) > MAX_ANSWER_BYTES:
                        raise EngineDown(f"it answered with more than {MAX_ANSWER_BYTES} bytes")
        except requests.RequestException as error:
            raise (EngineTimeout if _is_timeout(error) else EngineDown) from error
        return answer.status_code, bytes(data)

    def close(self) -> None:
        self.session.close()


def _is_timeout(error: requests.RequestException) -> bool:
    """In the midst of a body, requests makes it a ConnectionError."""
    return isinstance(error, requests.Timeout) or any(isinstance(cause, ReadTimeoutError) for cause in error.args)
