"""A small model hub in this process: repositories, commits, branches, private ones, downloads and uploads.

with FakeHub() as hub:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    hub.commit("shop/reviews", {"README.md": b"…"})

It answers as the real one does where a client depends on it: error codes in headers, ranges, git-LFS for large files.
It has no Xet storage. `requests` are the paths in order; `cut` is after how many bytes the next downloads break off.
"""

import base64
import hashlib
import json
import re
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

LARGE = 1 << 14  # bytes from which a file goes by LFS
Files = dict[str, bytes]


@dataclass
class Repository:
    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


class FakeHub:
    """`token` reads and writes all; without it private repositories do not exist."""

    token = "hf_secret"

    def __init__(self, hang: bool = False) -> None:
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cut: deque[int] = deque()
        self.busy = 0  # how many of the next requests are answered 503
        self.hang, self.over = hang, threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def commit(self, name: str, files: Files, branch: str = "main", private: bool = False) -> str:
        """A commit of exactly these files; returns its hash."""
        repository = self.repositories.setdefault(name, Repository(private=private))
        text = json.dumps([len(repository.commits), *sorted(files)]).encode() + b"".join(files.values())
        commit = hashlib.sha1(name.encode() + text).hexdigest()
        repository.commits[commit], repository.branches[branch] = dict(files), commit
        return commit

    def files(self, name: str, branch: str = "main") -> Files:
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]]


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = urlsplit(self.path).path
            hub.requests.append(f"{self.command} {path}")
            if hub.busy:
                hub.busy -= 1
                self.reply(503)
                return
            for method, pattern, act in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and method == self.command.replace("HEAD", "GET"):
                    act(self, *map(unquote, found.groups()), body)
                    return
            self.refuse(404, "EntryNotFound")

        do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

        @property
        def known(self) -> bool:
            return self.headers.get("Authorization") == f"Bearer {hub.token}"

        def reply(self, status: int, content: object = None, headers: dict[str, str] | None = None) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            cut = hub.cut.popleft() if isinstance(content, bytes) and hub.cut else len(data)
            self.wfile.write(data[:cut])
            if cut < len(data):
                self.close_connection = True

        def refuse(self, status: int, code: str) -> None:
            self.reply(status, {"error": code}, {"X-Error-Code": code})

        def files_of(self, name: str, revision: str) -> tuple[str, Files] | None:
            """(commit, files), or None when it was refused."""
            repository = hub.repositories.get(name)
            if repository is None or (repository.private and not self.known):
                self.refuse(404 if self.known else 401, "RepoNotFound")
                return None
            commit = repository.branches.get(revision, revision)
            if commit not in repository.commits:
                self.refuse(404, "RevisionNotFound")
                return None
            return commit, repository.commits[commit]

        def info(self, name: str, revision: str, _: bytes) -> None:
            if found := self.files_of(name, revision):
                commit, files = found
                siblings = [{"rfilename": file, "size": len(data)} for file, data in files.items()]
                self.reply(200, {"id": name, "sha": commit, "siblings": siblings})

        def resolve(self, name: str, revision: str, file: str, _: bytes) -> None:
            if found := self.files_of(name, revision):
                commit, files = found
                if file not in files:
                    self.refuse(404, "EntryNotFound")
                    return
                start = int(re.sub(r"\D", "", self.headers.get("Range", "")) or 0)
                data = files[file][start:]
                headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(files[file]).hexdigest()}"'}
                self.reply(206 if "Range" in self.headers else 200, data, headers)

        def create(self, body: bytes) -> None:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if not self.known:
                self.refuse(401, "")
            elif name in hub.repositories:
                self.reply(409, {"error": "exists", "url": f"{hub.endpoint}/{name}"})
            else:
                hub.commit(
                    name,
                    {".gitattributes": b""},
                    private="private" in (asked.get("visibility"), asked.get("private") and "private"),
                )
                self.reply(200, {"url": f"{hub.endpoint}/{name}", "name": name, "id": name})

        def validate(self, body: bytes) -> None:
            front = json.loads(body)["content"]
            folder = re.search(r"base_model: [/.~]", front)
            self.reply(200, {"errors": [{"message": "base_model"}] if folder else [], "warnings": []})

        def branch(self, name: str, branch: str, _: bytes) -> None:
            branches = hub.repositories[name].branches
            branches.setdefault(branch, branches["main"])
            self.reply(201, {})

        def preupload(self, name: str, _revision: str, body: bytes) -> None:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            self.reply(200, {"files": files})

        def batch(self, _name: str, body: bytes) -> None:
            if hub.hang:
                hub.over.wait(60)
            objects = [
                {**one, "actions": {"upload": {"href": f"{hub.endpoint}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.reply(200, {"transfer": "basic", "objects": objects})

        def store(self, oid: str, body: bytes) -> None:
            hub.stored[oid] = body
            self.reply(200, {})

        def send_commit(self, name: str, branch: str, body: bytes) -> None:
            files = dict(hub.files(name, branch))
            for line in map(json.loads, body.decode().splitlines()):
                key, value = line["key"], line["value"]
                if key == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif key == "lfsFile":
                    files[value["path"]] = hub.stored[value["oid"]]
                elif key == "deletedFile":
                    del files[value["path"]]
            commit = hub.commit(name, files, branch)
            url = f"{hub.endpoint}/{name}/commit/{commit}"
            self.reply(200, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    repository = r"([^/]+/[^/]+)"
    ROUTES: list[tuple[str, str, Any]] = [  # noqa: N806
        ("GET", rf"/api/models/{repository}/revision/([^/]+)", Handler.info),
        ("GET", rf"/{repository}/resolve/([^/]+)/(.+)", Handler.resolve),
        ("POST", r"/api/repos/create", Handler.create),
        ("POST", r"/api/validate-yaml", Handler.validate),
        ("POST", rf"/api/models/{repository}/branch/([^/]+)", Handler.branch),
        ("POST", rf"/api/models/{repository}/preupload/([^/]+)", Handler.preupload),
        ("POST", rf"/{repository}\.git/info/lfs/objects/batch", Handler.batch),
        ("PUT", r"/lfs/(\w+)", Handler.store),
        ("POST", rf"/api/models/{repository}/commit/([^/]+)", Handler.send_commit),
    ]
    return Handler
