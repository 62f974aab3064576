"""Counters of the registry, in the text format that Prometheus reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from barque.registryd.http import Answer, Request

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._gauges: dict[str, tuple[str, Callable[[], int]]] = {}

    def count(self, method: str, what: str, status: int) -> None:
        known = method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} else "other"
        self._requests[(known, what, status)] += 1

    def gauge(self, name: str, help: str, value: Callable[[], int]) -> None:
        self._gauges[name] = (help, value)

    def text(self) -> str:
        lines = [
            "# HELP barque_registry_requests_total Requests by method, endpoint and status.",
            "# TYPE barque_registry_requests_total counter",
        ]
        for (method, what, status), count in sorted(self._requests.items()):
            labels = f'method="{method}",endpoint="{what}",status="{status}"'
            lines.append(f"barque_registry_requests_total{{{labels}}} {count}")
        for name, (help, value) in self._gauges.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}", f"{name} {value()}"]
        return "\n".join(lines) + "\n"

    async def answer(self, request: Request) -> Answer:
        if request.path != "/metrics" or request.method != "GET":
            return Answer(404)
        return Answer(200, {"Content-Type": CONTENT_TYPE}, self.text().encode())
