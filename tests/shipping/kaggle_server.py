"""A stand-in for Kaggle on the loopback interface, and the only way the tests point the real client at it.

The client goes to ``http://localhost`` (port 80) where ``KAGGLE_API_ENVIRONMENT`` is ``LOCALHOST``, and to the real
Kaggle otherwise. With this server as its proxy any port will do: requests then carry whole addresses.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["HANG", "KEY", "Call", "KaggleServer", "client_environment", "refuse_other_addresses"]

KEY = "0123456789abcdef0123456789abcdef"
"""The dummy key that the client signs in with; no output may show it."""
HANG = (0, None)
"""An answer that never comes."""
_PROXIES = ("http_proxy", "https_proxy")


def client_environment(server: KaggleServer, home: Path) -> dict[str, str | None]:
    """What the client must find in the environment; None is what it must not find."""
    (home / "tmp").mkdir(parents=True)
    return {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "KAGGLE_USERNAME": "alice",
        "KAGGLE_KEY": KEY,
        **dict.fromkeys(_PROXIES, server.address),
        "no_proxy": "",
        "NO_PROXY": "",
        **dict.fromkeys(
            ("KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME", "KAGGLE_KERNEL_RUN_TYPE")
        ),
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")),
    }


def refuse_other_addresses(environment: Mapping[str, str], server: KaggleServer) -> None:
    """Raise where a client with this environment could reach anything but ``server``, or use real credentials."""
    wrong = [name for name in _PROXIES if environment.get(name) != server.address]
    if environment.get("KAGGLE_API_ENVIRONMENT") != "LOCALHOST":
        wrong.append("KAGGLE_API_ENVIRONMENT")
    if environment.get("KAGGLE_KEY", KEY) != KEY:
        wrong.append("KAGGLE_KEY")
    wrong += [name for name in ("no_proxy", "NO_PROXY", "KAGGLE_API_TOKEN") if environment.get(name)]
    if not server.address.startswith("http://127.0.0.1:"):
        wrong.append("the server's address")
    if wrong:
        raise RuntimeError(f"the client would not stay on loopback, or sign in for real: {', '.join(wrong)}")


@dataclass(frozen=True)
class Call:
    """One call of Kaggle's API as it arrived."""

    service: str
    method: str
    raw: bytes
    headers: dict[str, str]

    @property
    def body(self) -> dict[str, Any]:
        """The call's JSON."""
        return json.loads(self.raw)


class KaggleServer:
    """Answers the calls that the kit makes as Kaggle does when all is well, and otherwise as it is told to."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.puts: dict[str, bytes] = {}
        """Bytes that arrived, by file name."""
        self.datasets: dict[str, str] = {}
        self.dataset_versions: dict[str, int] = defaultdict(int)
        self.outputs: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.told: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        self.versions: dict[str, int] = defaultdict(int)
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def address(self) -> str:
        """Where the client's proxy is."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> KaggleServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def tell(self, method: str, *answers: tuple[int, Any]) -> None:
        """Give these answers, ``(status, JSON or bytes)``, to the next calls of ``method``; `HANG` gives none."""
        self.told[method] += answers

    def received(self, method: str) -> list[Call]:
        """The calls of ``method``, in order."""
        return [call for call in self.calls if call.method == method]

    def answer_post(self, path: str, raw: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        service, method = path.removeprefix("/api/v1/").split("/")
        call = Call(service, method, raw, headers)
        with self.lock:
            self.calls.append(call)
            if self.told[method]:
                return self.told[method].pop(0)
            return getattr(self, f"_{method}")(call.body)

    def answer_put(self, path: str, content: bytes) -> tuple[int, Any]:
        with self.lock:
            if self.told["PUT"]:
                return self.told["PUT"].pop(0)
            self.puts[path.removeprefix("/upload/")] = content
        return 200, {}

    def answer_get(self, path: str) -> tuple[int, Any]:
        _, _, owner, slug, name = path.split("/", 4)
        with self.lock:
            if self.told["GET"]:
                return self.told["GET"].pop(0)
            return 200, self.outputs[f"{owner}/{slug}"][name]

    def _SaveKernel(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.versions[body["slug"]] += 1
        url = f"https://www.kaggle.com/code/{body['slug']}"
        return 200, {"ref": f"/code/{body['slug']}", "url": url, "versionNumber": self.versions[body["slug"]]}

    def _GetKernelSessionStatus(self, body: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"status": "COMPLETE"}

    def _ListKernelSessionOutput(self, body: dict[str, Any]) -> tuple[int, Any]:
        kernel = f"{body['userName']}/{body['kernelSlug']}"
        names = sorted(self.outputs[kernel])
        start = int(body.get("pageToken") or 0)
        page = names[start : start + 2]  # small, so that paging is used
        files = [{"fileName": name, "url": f"http://localhost/files/{kernel}/{name}"} for name in page]
        more = {"nextPageToken": str(start + 2)} if start + 2 < len(names) else {}
        return 200, {"files": files, "log": f"log of {kernel}", **more}

    def _GetDatasetStatus(self, body: dict[str, Any]) -> tuple[int, Any]:
        dataset = f"{body['ownerSlug']}/{body['datasetSlug']}"
        if dataset in self.datasets:
            return 200, {"status": self.datasets[dataset]}
        return 404, {"code": 404, "message": "Not found"}

    def _StartBlobUpload(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["name"]
        return 200, {"token": f"token-of-{name}", "createUrl": f"http://localhost/upload/{name}?right=secret"}

    def _CreateDataset(self, body: dict[str, Any]) -> tuple[int, Any]:
        dataset = f"{body['ownerSlug']}/{body['slug']}"
        self.datasets[dataset] = "READY"
        self.dataset_versions[dataset] = 1
        return 200, {"status": "ok", "ref": dataset, "url": f"https://www.kaggle.com/datasets/{dataset}"}

    def _GetDataset(self, body: dict[str, Any]) -> tuple[int, Any]:
        dataset = f"{body['ownerSlug']}/{body['datasetSlug']}"
        return 200, {"ref": dataset, "currentVersionNumber": self.dataset_versions[dataset]}

    def _CreateDatasetVersion(self, body: dict[str, Any]) -> tuple[int, Any]:
        dataset = f"{body['ownerSlug']}/{body['datasetSlug']}"
        self.dataset_versions[dataset] += 1
        return 200, {"status": "ok", "ref": dataset, "url": f"https://www.kaggle.com/datasets/{dataset}"}

    def _CreateCodeSubmission(self, body: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"message": f"Successfully submitted to {body['competitionName']}", "ref": 4711}


def _handler_for(server: KaggleServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self._answer(*server.answer_post(self._path(), self._body(), dict(self.headers)))

        def do_PUT(self) -> None:
            self._answer(*server.answer_put(self._path(), self._body()))

        def do_GET(self) -> None:
            self._answer(*server.answer_get(self._path()))

        def log_message(self, *arguments: object) -> None:
            pass

        def _path(self) -> str:
            return urlsplit(self.path).path

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def _answer(self, status: int, answer: Any) -> None:
            if (status, answer) == HANG:
                server.closing.wait()
                self.close_connection = True
                return
            is_json = not isinstance(answer, bytes)
            content = json.dumps(answer).encode() if is_json else answer
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if is_json else "application/octet-stream")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler
