"""Prometheus and its tools, where they are installed."""

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.faults.proxy import free_port

CONFIG = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: {job}
    static_configs: [{{targets: ["127.0.0.1:{port}"], labels: {{namespace: {namespace}}}}}]
"""


def require(tool: str) -> str:
    """The path of `promtool` or `prometheus`; skips the test where it is missing."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"no {tool} on PATH: apt-get install prometheus, then run this test again")
    return path


class Prometheus:
    """One that scrapes a worker every second, for as long as a `with` block; its data and log lie in `folder`."""

    def __init__(self, folder: Path, rules: Path, port: int, *, namespace: str, job: str) -> None:
        folder.mkdir()
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(rules=rules.resolve(), port=port, namespace=namespace, job=job))
        self._address = f"127.0.0.1:{free_port()}"
        self._log = folder / "log"
        self._command = [
            require("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self._address}",
        ]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)
        if error is not None:
            error.add_note(f"prometheus said:\n{self._log.read_text()[-3000:]}")

    def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of the HTTP API. Raises OSError where it does not answer, or refuses."""
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        """What an expression gives now."""
        found = self.get("query", query=expression)["result"]
        return [float(one["value"][1]) for one in found]

    def scrapes(self) -> int:
        """How often it has scraped the worker that is up; 0 before it answers."""
        try:
            return int(sum(self.values("sum(sum_over_time(up[10m]))")))
        except OSError:
            return 0
