"""A Hub on the loopback, read only: as much of its HTTP interface as loading a dataset asks for.

    python hub_server.py FOLDER     serves FOLDER/org/name/... as datasets, and prints its address

Every dataset has one commit, which is its branch `main` and its tag `v1`.
"""

import json
import re
import sys
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

REVISIONS = ("main", "v1")
PATHS = re.compile(
    r"/api/datasets/(?P<info>[\w.-]+/[\w.-]+)(/revision/(?P<at>[^/]+))?"
    r"|/api/datasets/(?P<tree>[\w.-]+/[\w.-]+)/tree/(?P<of>[^/]+)(/(?P<folder>.*))?"
    r"|/datasets/(?P<repo>[\w.-]+/[\w.-]+)/resolve/(?P<rev>[^/]+)/(?P<file>.+)"
)


def commit(repo: Path) -> str:
    """40 hex digits over every file of a dataset."""
    digest = sha1()
    for file in sorted(repo.rglob("*")):
        digest.update(str(file.relative_to(repo)).encode() + (file.read_bytes() if file.is_file() else b""))
    return digest.hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        match = PATHS.fullmatch(unquote(urlsplit(self.path).path))
        if match is None:
            self._missing("EntryNotFound")
            return
        name = match["info"] or match["tree"] or match["repo"]
        revision = match["at"] or match["of"] or match["rev"] or "main"
        repo = self.root / name
        if not repo.is_dir():
            self._missing("RepoNotFound")
        elif revision not in (*REVISIONS, commit(repo)):
            self._missing("RevisionNotFound")
        elif match["info"]:
            siblings = [{"rfilename": str(f.relative_to(repo))} for f in sorted(repo.rglob("*")) if f.is_file()]
            self._json({"id": name, "sha": commit(repo), "siblings": siblings, "private": False, "tags": []})
        elif match["tree"]:
            self._tree(repo, repo / (match["folder"] or ""))
        else:
            self._file(repo, repo / match["file"])

    def _tree(self, repo: Path, folder: Path) -> None:
        if not folder.is_dir():
            self._missing("EntryNotFound")
            return
        deep = "recursive=true" in self.path.lower()
        entries = sorted(folder.rglob("*") if deep else folder.iterdir())
        self._json(
            [
                {
                    "type": "directory" if entry.is_dir() else "file",
                    "path": str(entry.relative_to(repo)),
                    "oid": sha1(str(entry).encode()).hexdigest(),
                    "size": entry.stat().st_size if entry.is_file() else 0,
                }
                for entry in entries
            ]
        )

    def _file(self, repo: Path, file: Path) -> None:
        if not file.is_file():
            self._missing("EntryNotFound", commit(repo))
            return
        data = file.read_bytes()
        headers = {"X-Repo-Commit": commit(repo), "ETag": f'"{sha256(data).hexdigest()}"'}
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(part[1]), int(part[2] or len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            self._answer(206, data[first : last + 1], headers)
            return
        self._answer(200, data, headers)

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str, at: str = "") -> None:
        self._answer(404, b"{}", {"X-Error-Code": code, **({"X-Repo-Commit": at} if at else {})})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: nobody reads it."""


if __name__ == "__main__":
    Handler.root = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
