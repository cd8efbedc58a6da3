"""An engine on a URL of its own. Apart from hooks.py, as requests would be a quarter of what a start without `--engine` costs."""
import re

import requests
from requests.adapters import HTTPAdapter

from leanstorage.engine.hooks import MAX_THREADS, EngineDown, EngineTimeout
from leanwsgi.announcements import pass_over


class HttpTransport:
    """An engine on a URL of its own."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.name = "the engine at " + re.sub("//[^/]*@", "//", self.url)
        self.session = requests.Session()
        self.session.trust_env = False
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=MAX_THREADS)
        pass_over(adapter)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)

    def __call__(
        self, method: str, path: str, headers: dict[str, str], body: bytes, timeout: float
    ) -> tuple[int, bytes]:
        try:
            answer = self.session.request(
                method, self.url + path, headers=headers, data=body, timeout=timeout, allow_redirects=False
            )
        except requests.Timeout as error:
            raise EngineTimeout from error
        except requests.RequestException as error:
            raise EngineDown from error
        return answer.status_code, answer.content

    def close(self) -> None:
        self.session.close()
