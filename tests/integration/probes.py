"""The probes and metrics of a worker, as others see them."""

import urllib.error
import urllib.request
from http.client import HTTPException


def answer(port: int, path: str) -> tuple[int, str]:
    """Code and body of a probe; 0 where nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as said:
            return said.status, said.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (OSError, HTTPException):  # also where the process ends amid an answer
        return 0, ""


def metrics(port: int) -> dict[str, float]:
    """All values of /metrics, by name and labels."""
    lines = (line for line in answer(port, "/metrics")[1].splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def found(port: int, name: str) -> list[float]:
    """The values of one metric, whatever its labels."""
    return [value for labelled, value in metrics(port).items() if labelled.partition("{")[0] == name]
