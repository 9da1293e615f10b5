"""The console's own files: read once, compressed once, at an address that changes with their content."""

import gzip
import hashlib
import tomllib
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.parts.link import ROOT
from aitp_cp.errors import NotFound

FOLDER = Path(__file__).parent / "static"
IMMUTABLE = "public, max-age=31536000, immutable"
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class StaticFile(msgspec.Struct, frozen=True):
    body: bytes
    packed: bytes
    kind: str


class StaticFiles:
    """All files under one hash, so that a module finds the others beside it."""

    def __init__(self) -> None:
        added = {entry["file"]: entry.get("added", "") for entry in vendored()}
        paths = [path for path in sorted(FOLDER.iterdir()) if path.suffix in KINDS]
        self._files = {path.name: _read(path, added.get(path.name, "")) for path in paths}
        digest = hashlib.sha256()
        for name, file in self._files.items():
            digest.update(name.encode() + b"\0" + hashlib.sha256(file.body).digest())
        self.version = digest.hexdigest()[:16]

    def url(self, name: str) -> str:
        """Return the address of a file; raises `KeyError` for one that does not exist."""
        if name not in self._files:
            raise KeyError(name)
        return f"{ROOT}/static/{self.version}/{name}"

    def response(self, request: Request) -> Response:
        """Return a file. A page of another version may ask for it by another hash: then nobody keeps the answer."""
        file = self._files.get(request.path_params["name"])
        if file is None:
            raise NotFound("no such file")
        current = request.path_params["version"] == self.version
        headers = {"cache-control": IMMUTABLE if current else "no-store", "vary": "Accept-Encoding"}
        if accepts_gzip(request):
            return Response(file.packed, 200, {**headers, "content-encoding": "gzip"}, media_type=file.kind)
        return Response(file.body, 200, headers, media_type=file.kind)


def accepts_gzip(request: Request) -> bool:
    """Return whether gzip is among the codings that the client takes; none of a browser refuses it by `q=0`."""
    return "gzip" in request.headers.get("accept-encoding", "")


def vendored() -> list[dict[str, str]]:
    """Return what was written by others: name, version, licence, SHA-256 as published, and what is added to it."""
    entries: list[dict[str, str]] = tomllib.loads((FOLDER / "VENDORED.toml").read_text())["file"]
    return entries


def _read(path: Path, added: str) -> StaticFile:
    body = path.read_bytes() + added.encode()
    return StaticFile(body, gzip.compress(body, 9, mtime=0), KINDS[path.suffix])
