"""A hub on loopback: the routes of the real one that huggingface_hub 1 and 2 call, over a repository in memory.

Reading and writing as the client does it: repositories are made, files are announced (`preupload`), large ones are
uploaded by git LFS's batch protocol, and everything appears with one `commit`; downloads ask by HEAD first. Requests
can be made to fail, or to succeed without the client hearing of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKENS = {"hf_writer": ("owner", "write"), "hf_reader": ("reader", "read")}
LARGE = (".safetensors", ".png", ".pdf", ".model")
LOST = 0  # a status of `fail`: the request is carried out and the connection closed without an answer


@dataclass
class Commit:
    oid: str
    title: str
    files: dict[str, bytes]


@dataclass
class Repository:
    name: str
    private: bool
    commits: list[Commit] = field(default_factory=list)

    def add(self, title: str, files: dict[str, bytes]) -> Commit:
        content = json.dumps([title, len(self.commits), sorted(files)]).encode()
        self.commits.append(Commit(hashlib.sha1(content).hexdigest(), title, files))
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit.oid == revision), None)


@dataclass
class Failure:
    method: str
    path: str
    status: int
    times: int


class LoopbackHub:
    """Starts serving when it is made; `close` ends it."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.failures: list[Failure] = []
        self.unknown: list[str] = []
        hub = self

        class Handler(_Handler):
            def __init__(self, *args: Any) -> None:
                self.hub = hub
                super().__init__(*args)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(self, method: str, path: str, status: int, times: int = 1) -> None:
        """Let the next so many requests whose path matches end in a status, or be `LOST`."""
        self.failures.append(Failure(method, path, status, times))

    def put(self, name: str, files: dict[str, bytes], private: bool = False) -> str:
        """A repository that is there already; its commit."""
        repository = self.repositories.setdefault(name, Repository(name, private))
        return repository.add("put there", files).oid

    def calls(self, method: str, path: str) -> int:
        """How often a route was asked."""
        return sum(verb == method and re.search(path, asked) is not None for verb, asked, _ in self.requests)


def environment_of(hub: LoopbackHub, folder: Path, token: str | None = "hf_writer") -> dict[str, str]:
    """The settings that turn huggingface_hub's client in another process to a hub on loopback."""
    switches = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return {**switches, "HF_HOME": str(folder / "hf"), **({"HF_TOKEN": token} if token else {})}


Route = tuple[str, str, Callable[..., None]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub
    routes: list[Route] = []

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        length = int(self.headers.get("Content-Length") or 0)
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        self.body = self._chunks() if chunked else self.rfile.read(length)
        self.answered = 0
        failure = next(
            (f for f in self.hub.failures if f.times and f.method == self.command and re.search(f.path, path)), None
        )
        self.lost = False
        if failure is not None:
            failure.times -= 1
            self.lost = failure.status == LOST
            if not self.lost:
                self._json({"error": "made to fail"}, failure.status)
                self.hub.requests.append((self.command, path, self.answered))
                return
        for method, pattern, action in self.routes:
            match = re.fullmatch(pattern, path)
            if method == self.command and match:
                action(self, *match.groups())
                break
        else:
            self.hub.unknown.append(f"{self.command} {path}")
            self._json({"error": "no such route"}, 404, {"X-Error-Code": "EntryNotFound"})
        self.hub.requests.append((self.command, path, self.answered))

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    # -- answers -----------------------------------------------------------------------------------------------

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.answered = status
        if self.lost:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        error = {"X-Error-Message": str(value["error"])} if isinstance(value, dict) and "error" in value else {}
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **error, **(headers or {})})

    def _who(self) -> tuple[str, str] | None:
        """(account, role) of the token, None without one; an unknown token is answered at once."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return TOKENS.get(token)

    def _may_write(self, name: str) -> bool:
        who = self._who()
        if who is None:
            self._json({"error": "Invalid credentials in Authorization header"}, 401)
        elif who[1] != "write" or who[0] != name.split("/")[0]:
            self._json({"error": f"You don't have the rights to write under the namespace {name.split('/')[0]}"}, 403)
        else:
            return True
        return False

    def _readable(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self._who() != (name.split("/")[0], "write")):
            self._json({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
            return None
        return repository

    # -- routes ------------------------------------------------------------------------------------------------

    def whoami(self) -> None:
        who = self._who()
        if who is None:
            self._json({"error": "Invalid credentials in Authorization header"}, 401)
        else:
            self._json({"type": "user", "name": who[0], "auth": {"accessToken": {"role": who[1]}}})

    def harnesses(self) -> None:
        """The client may ask which programs drive it."""
        self._json({"harnesses": []})

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or (self._who() or ('', ''))[0]}/{asked['name']}"
        if not self._may_write(name):
            return
        if name in self.hub.repositories:
            self._json({"error": "You already created this model repo", "url": f"{self.hub.endpoint}/{name}"}, 409)
            return
        repository = Repository(name, asked.get("visibility") == "private" or asked.get("private") is True)
        repository.add("initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.hub.repositories[name] = repository
        self._json({"url": f"{self.hub.endpoint}/{name}", "name": name, "id": "1"})

    def info(self, name: str, revision: str = "main") -> None:
        repository = self._readable(name)
        if repository is None:
            return
        commit = repository.at(revision)
        if commit is None:
            self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return
        siblings = [{"rfilename": file} for file in sorted(commit.files)]
        facts = {"id": name, "modelId": name, "sha": commit.oid, "private": repository.private, "siblings": siblings}
        self._json({**facts, "tags": [], "downloads": 0, "likes": 0})

    def tree(self, name: str, revision: str, _folder: str | None = None) -> None:
        repository = self._readable(name)
        commit = repository.at(revision) if repository else None
        if commit is not None:
            rows = [
                {"type": "file", "path": path, "size": len(content), **_sums(path, content)}
                for path, content in sorted(commit.files.items())
            ]
            self._json(rows)
        elif repository is not None:
            self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})

    def commits(self, name: str, _revision: str) -> None:
        repository = self._readable(name)
        if repository is not None:
            same = {"message": "", "date": "2026-01-01T00:00:00.000Z", "authors": []}
            self._json([{"id": commit.oid, "title": commit.title, **same} for commit in repository.commits[::-1]])

    def validate(self) -> None:
        text = json.loads(self.body)["content"]
        if re.search(r"^license: (?!apache-2.0|mit|cc-by)", text, re.MULTILINE):
            errors = [{"message": '"license" must be one of [apache-2.0, mit, ...]'}]
            self._json({"errors": errors, "warnings": []}, 400)
        else:
            self._json({"errors": [], "warnings": []})

    def preupload(self, name: str, _revision: str) -> None:
        if not self._may_write(name) or (repository := self._readable(name)) is None:
            return
        there = repository.commits[-1].files
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                **({"oid": _git_oid(there[file["path"]])} if file["path"] in there else {}),
            }
            for file in json.loads(self.body)["files"]
        ]
        self._json({"files": modes, "commitOid": repository.commits[-1].oid})

    def batch(self, name: str) -> None:
        if not self._may_write(name):
            return
        objects = []
        for item in json.loads(self.body)["objects"]:
            links = {
                "upload": {"href": f"{self.hub.endpoint}/lfs/{item['oid']}"},
                "verify": {"href": f"{self.hub.endpoint}/lfs-verify/{item['oid']}"},
            }
            objects.append({**item, **({} if item["oid"] in self.hub.blobs else {"actions": links})})
        self._json({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self._json({"error": "content and oid differ"}, 400)
            return
        self.hub.blobs[oid] = self.body
        self._json({})

    def verify(self, oid: str) -> None:
        wanted = json.loads(self.body)
        known = len(self.hub.blobs.get(oid, b"")) == wanted["size"] and wanted["oid"] == oid
        self._json({} if known else {"error": "no such object"}, 200 if known else 404)

    def commit(self, name: str, revision: str) -> None:
        if not self._may_write(name) or (repository := self._readable(name)) is None:
            return
        lines = [json.loads(line) for line in self.body.splitlines()]
        title, files = "", dict(repository.commits[-1].files)
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                title = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                if files.pop(value["path"], None) is None:
                    self._json({"error": f"{value['path']} is not there"}, 400)
                    return
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.blobs:
                    self._json({"error": f"{value['path']} was never uploaded"}, 400)
                    return
                files[value["path"]] = self.hub.blobs[value["oid"]]
        made = repository.add(title, files)
        place = f"{self.hub.endpoint}/{name}/commit/{made.oid}"
        self._json({"success": True, "commitOid": made.oid, "commitUrl": place, "hookOutput": ""})

    def resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._readable(name)
        if repository is None:
            return
        commit = repository.at(revision)
        if commit is None:
            self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        elif path not in commit.files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit.oid}
            self._json({"error": "Entry not found"}, 404, headers)
        else:
            content = commit.files[path]
            self._send(content, 200, {"X-Repo-Commit": commit.oid, "ETag": f'"{_git_oid(content)}"'})

    def space_file(self, name: str, revision: str, path: str) -> None:
        self.resolve(f"spaces/{name}", "main", path)


def _sums(path: str, content: bytes) -> dict[str, object]:
    """Of a large file git has a pointer, whose sum says nothing, and LFS the sha256."""
    if not path.endswith(LARGE):
        return {"oid": _git_oid(content)}
    lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return {"oid": _git_oid(f"oid sha256:{lfs['oid']}".encode()), "lfs": lfs}


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_NAME = r"([\w.-]+/[\w.-]+)"
_Handler.routes = [
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("GET", "/api/agent-harnesses", _Handler.harnesses),
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("GET", f"/api/models/{_NAME}", _Handler.info),
    ("GET", f"/api/models/{_NAME}/revision/(.+)", _Handler.info),
    ("GET", f"/api/models/{_NAME}/tree/([^/]+)(/.*)?", _Handler.tree),
    ("GET", f"/api/models/{_NAME}/commits/(.+)", _Handler.commits),
    ("POST", f"/api/models/{_NAME}/preupload/(.+)", _Handler.preupload),
    ("POST", f"/{_NAME}.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/lfs/([0-9a-f]{64})", _Handler.upload),
    ("POST", "/lfs-verify/([0-9a-f]{64})", _Handler.verify),
    ("POST", f"/api/models/{_NAME}/commit/(.+)", _Handler.commit),
    ("HEAD", f"/spaces/{_NAME}/resolve/([^/]+)/(.+)", _Handler.space_file),
    ("GET", f"/spaces/{_NAME}/resolve/([^/]+)/(.+)", _Handler.space_file),
    ("HEAD", f"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("GET", f"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
]
