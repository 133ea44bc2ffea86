"""Plays the API of the Hugging Face hub, as huggingface_hub 2 calls it: a model's facts, its files and their hashes.

GET  /api/models/OWNER/NAME[/revision/REV]?blobs=true      sha, siblings with sizes
HEAD /OWNER/NAME/resolve/COMMIT/FILE                       X-Repo-Commit, ETag (of git) or X-Linked-ETag (of LFS)
GET  the same                                              the bytes, or a redirection to another host for LFS
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "76543210fedcba9876543210fedcba9876543210"
TOKEN = "hf_right"
_LFS = (".safetensors", ".bin", ".gguf", ".pt", "tokenizer.model")


@dataclass
class Repository:
    """What the server says of a repository."""

    files: dict[str, bytes]
    access: str = "public"  # or "private", "gated"
    sizes: dict[str, int] = field(default_factory=dict)  # told in place of the real ones
    wrong: set[str] = field(default_factory=set)  # whose bytes come changed
    breaks_at: int | None = None  # connections of large files end after so many bytes in all


@dataclass
class Hub:
    """A running server."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)  # METHOD PATH [RANGE]
    storage_tokens: list[str | None] = field(default_factory=list)  # what the host of large files was told


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub, and the host of its large files, on two ports of this machine."""
    hub = Hub("")
    servers = [_server(hub, kind) for kind in (_HubHandler, _StorageHandler)]
    hub.url, storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    _HubHandler.storage = storage
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _server(hub: Hub, kind: type[_Handler]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type(kind.__name__, (kind,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path} {self.headers.get('Range') or ''}".strip())
        self.answer(self.path.partition("?")[0].strip("/").split("/"))

    def answer(self, parts: list[str]) -> None:
        raise NotImplementedError

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _HubHandler(_Handler):
    storage = ""

    def answer(self, parts: list[str]) -> None:
        is_api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if is_api else parts
        repository = self.hub.repositories.get(f"{owner}/{name}")
        token = self.headers.get("Authorization")
        known = token == f"Bearer {TOKEN}"
        if token and not known:
            self.send(401, X_Error_Message="Invalid credentials in Authorization header")
        elif repository is None or (repository.access == "private" and not known):
            self.send(404 if known else 401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif is_api:
            self._facts(f"{owner}/{name}", repository, "/".join(rest[1:]) or "main")
        elif repository.access == "gated" and not known:
            self.send(401, X_Error_Code="GatedRepo", X_Error_Message="Access to this model is restricted")
        else:
            self._file(f"{owner}/{name}", repository, rest[1], "/".join(rest[2:]))

    def _facts(self, name: str, repository: Repository, revision: str) -> None:
        commits = {"main": COMMIT, COMMIT: COMMIT, "old": OTHER, OTHER: OTHER}
        if revision not in commits:
            return self.send(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
        sizes = {file: len(data) for file, data in repository.files.items()} | repository.sizes
        siblings = [{"rfilename": file, "size": size} for file, size in sizes.items()]
        facts = {"id": name, "sha": commits[revision], "siblings": siblings}
        self.send(200, json.dumps(facts).encode(), Content_Type="application/json")

    def _file(self, name: str, repository: Repository, commit: str, file: str) -> None:
        data = repository.files.get(file)
        if data is None:
            return self.send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        if file.endswith(_LFS):
            etag, size = hashlib.sha256(data).hexdigest(), str(len(data))
            location = f"{self.storage}/{name}/{file}"
            return self.send(
                302, Location=location, X_Repo_Commit=commit, X_Linked_ETag=f'"{etag}"', X_Linked_Size=size
            )
        etag = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        self.send(200, data, X_Repo_Commit=commit, ETag=f'"{etag}"')


class _StorageHandler(_Handler):
    def answer(self, parts: list[str]) -> None:
        repository = self.hub.repositories["/".join(parts[:2])]
        self.hub.storage_tokens.append(self.headers.get("Authorization"))
        name = "/".join(parts[2:])
        data = repository.files[name]
        if name in repository.wrong:
            data = bytes([data[0] ^ 1]) + data[1:]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data) if repository.breaks_at is None else min(len(data), repository.breaks_at)
        self.wfile.write(data[start : max(start, end)])
        if end < len(data):
            self.close_connection = True
