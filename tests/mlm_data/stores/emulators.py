"""Object stores for tests: real emulators in processes of their own, and a proxy before them that counts and hurts.

    with s3_server() as store:             moto's server
    with google_server() as store:         gcp-storage-emulator
        store.enter(monkeypatch)           its variables, and nothing asked or set so far
        store.requests()                   what it was asked since the last call, as "PUT /bucket/name"

Each has a proxy before it, whose faults a test sets: `store.proxy.faults = ["500", "reset"]` are given to the next
two requests, `store.proxy.delay` is waited before each. The proxy is a process of its own, because Arrow's client of
Google's storage (25.0) holds Python's lock while it opens an object for the first read: a proxy in a thread of the same
process could never answer it.
"""

import contextlib
import http.client
import http.server
import importlib.util
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 60
BUCKET = "premask-test"
CONTROL = "/premask-proxy"  # what the proxy answers itself
ONE_ERROR = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "429": (429, "TooManyRequests"),
    "403": (403, "AccessDenied"),
    "key": (403, "InvalidAccessKeyId"),
    "secret": (403, "SignatureDoesNotMatch"),
    "401": (401, "Unauthorized"),
    "expired": (400, "ExpiredToken"),
    "token": (400, "InvalidToken"),
    "301": (301, "PermanentRedirect"),
    "501": (501, "NotImplemented"),
}  # beside these: reset, cut, slow, flip; lost: it is done, and nothing is answered


class Proxy:
    """A proxy in another process: what it is to do, and what it was asked."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"

    def _ask(self, **changes: Any) -> dict[str, Any]:
        request = urllib.request.Request(f"http://{self.address}{CONTROL}", json.dumps(changes).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    @property
    def faults(self) -> list[str]:
        """For the next requests, one each: those that are left."""
        return self._ask()["faults"]

    @faults.setter
    def faults(self, value: list[str]) -> None:
        self._ask(faults=value)

    def set(self, *, always: str | None = None, delay: float | None = None) -> None:
        """A fault for each request; seconds before each answer."""
        given = {"always": always, "delay": delay}
        self._ask(**{name: value for name, value in given.items() if value is not None})

    def reset(self) -> None:
        """Nothing goes wrong any more, and nothing was asked so far."""
        self._ask(faults=[], always="", delay=0.0, log=[])

    def taken(self) -> list[str]:
        """What it was asked since the last call."""
        return self._ask(log=[])["log"]


class _Server(http.server.ThreadingHTTPServer):
    """Passes requests on to a server, after whatever is to go wrong."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, target: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.target = target
        self.log: list[str] = []
        self.faults: list[str] = []  # for the next requests, one each
        self.always = ""  # a fault for each request
        self.delay = 0.0  # seconds before each answer
        self.guard = threading.Lock()
        self.one_condition = threading.Lock()

    def change(self, given: dict[str, Any]) -> dict[str, Any]:
        """Take what a test sets; returns what was there before."""
        with self.guard:
            before = {name: getattr(self, name) for name in ("log", "faults", "always", "delay")}
            for name, value in given.items():
                setattr(self, name, value)
            return before

    def next_fault(self) -> str:
        with self.guard:
            return self.faults.pop(0) if self.faults else self.always

    def handle_error(self, *_) -> None:
        """A client that goes away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _pass_on(self) -> None:
        body = self._body()
        if self.path == CONTROL:
            self._answer(200, "application/json", json.dumps(self.server.change(json.loads(body or b"{}"))).encode())
            return
        with self.server.guard:
            self.server.log.append(f"{self.command} {self.path}")
        time.sleep(self.server.delay)
        fault = self.server.next_fault()
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if fault in ONE_ERROR:
            self._refuse(*ONE_ERROR[fault])
            return
        condition = self._condition()
        is_one = bool(condition) or any(self.headers.get(name) for name in ("If-Match", "If-None-Match"))
        with self.server.one_condition if is_one else contextlib.nullcontext():  # both emulators look, and then write
            if condition and self._generation(condition["bucket"], condition["name"]) != condition["generation"]:
                self._answer(412, "application/json", b'{"error": {"code": 412, "message": "conditionNotMet"}}')
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            answer, data = self._inner(self.command, self.path, body, headers)
        if fault == "lost":
            self.close_connection = True
            return
        self.send_response_only(answer.status, answer.reason)
        has_body = self.command != "HEAD"
        for name, value in answer.getheaders():
            if name.lower() not in _HOP and not (has_body and name.lower() == "content-length"):
                self.send_header(name, value)
        if has_body:
            self.send_header("content-length", str(len(data)))
        self.end_headers()
        if not has_body:
            return
        if fault == "cut":
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif fault == "slow":
            step = max(1, len(data) // 8)
            for start in range(0, len(data), step):
                self.wfile.write(data[start : start + step])
                time.sleep(0.05)
        elif fault == "flip" and data:
            place = random.Random(0).randrange(len(data))
            self.wfile.write(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        else:
            self.wfile.write(data)

    def _inner(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        inner = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=60)
        inner.request(method, path, body=body, headers=headers or {})
        answer = inner.getresponse()
        data = answer.read()
        inner.close()
        return answer, data

    def _condition(self) -> dict[str, str]:
        """What an upload to Google's storage wants to find; empty if it doesn't say."""
        path, _, query = self.path.partition("?")
        given = dict(urllib.parse.parse_qsl(query))
        if not path.startswith("/upload/storage/v1/b/") or "ifGenerationMatch" not in given:
            return {}
        return {"bucket": path.split("/")[5], "name": given["name"], "generation": given["ifGenerationMatch"]}

    def _generation(self, bucket: str, name: str) -> str:
        answer, data = self._inner("GET", f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}")
        return str(json.loads(data)["generation"]) if answer.status == 200 else "0"

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        if self.headers.get("expect", "").lower() == "100-continue":
            pass  # the base class has answered
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, "application/xml", f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = _pass_on  # noqa: N815

    def log_message(self, *_) -> None:
        pass


_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "date", "server"}


@dataclass
class Store:
    """A running emulator behind a proxy."""

    scheme: str
    proxy: Proxy
    port: int  # of the emulator itself
    environment: dict[str, str] = field(default_factory=dict)

    def uri(self, name: str) -> str:
        return f"{self.scheme}://{BUCKET}/{name}"

    def requests(self) -> list[str]:
        return self.proxy.taken()

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the variables of the environment lead there, where nothing goes wrong and nothing was asked so far."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        self.proxy.reset()


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that give up soon."""
    monkeypatch.setattr("mlm_data.stores.places.RETRY_SECONDS", 1)
    monkeypatch.setattr("mlm_data.stores.places.ATTEMPTS", 2)
    monkeypatch.setenv("AWS_ATTEMPTS_OF_THIS_TEST", "2")  # another environment, another client


@contextlib.contextmanager
def s3_server() -> Iterator[Store]:
    """moto's server with an empty bucket, and the variables that lead there."""
    need("moto", "flask")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, f"http://127.0.0.1:{port}/moto-api/"), _proxied(port) as proxy:
        _ask("PUT", f"http://127.0.0.1:{port}/{BUCKET}")
        yield Store(
            "s3",
            proxy,
            port,
            {
                "AWS_ENDPOINT_URL": f"http://{proxy.address}",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            },
        )


@contextlib.contextmanager
def google_server() -> Iterator[Store]:
    """gcp-storage-emulator with an empty bucket, and the variable that leads there."""
    need("gcp_storage_emulator")
    port = free_port()
    code = (
        "from gcp_storage_emulator.server import create_server as c; import time;"
        f"s = c('127.0.0.1', {port}, in_memory=True, default_bucket='{BUCKET}'); s.start(); time.sleep(1e6)"
    )
    with _running([sys.executable, "-c", code], f"http://127.0.0.1:{port}/storage/v1/b"), _proxied(port) as proxy:
        yield Store("gs", proxy, port, {"STORAGE_EMULATOR_HOST": f"http://{proxy.address}"})


def need(*packages: str) -> None:
    """Skip, with the command that installs it, where an emulator is not there."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'premask[dev]'")


@contextlib.contextmanager
def _running(command: list[str], address: str) -> Iterator[None]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_CORE")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                _ask("GET", address)
                break
            except OSError:
                assert process.poll() is None, f"{Path(command[0]).name} has ended"
                assert time.monotonic() < end, f"{address} does not answer"
                time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _proxied(port: int) -> Iterator[Proxy]:
    own = free_port()
    command = [sys.executable, __file__, str(own), str(port)]
    with _running(command, f"http://127.0.0.1:{own}{CONTROL}"):
        yield Proxy(own)


def _ask(method: str, address: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=10) as answer:
        answer.read()


def free_port() -> int:
    """A port where nobody listens now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    _Server(int(sys.argv[1]), int(sys.argv[2])).serve_forever()
