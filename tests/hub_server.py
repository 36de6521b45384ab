"""A Hub on 127.0.0.1 for tests: accounts, repositories, commits, LFS and the typed errors, as huggingface_hub asks for them.

`small_hub()` gives only its address: it holds a gated model and data set (team/gated), a model of a type nobody knows (team/new), and
nothing else. `local_hub()` gives the hub itself, with accounts that may push. State lies in memory and goes with the block.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS_ABOVE = 10_000_000
NO_COMMIT = "0" * 40
WRITER, READER, STRANGER = "hf_writerwriterwriterwriter", "hf_readerreaderreaderreader", "hf_strangerstrangerstranger"
Headers = dict[str, str]


@dataclass
class Commit:
    """The files of a repository at one commit: path -> content, and which of them lie in LFS."""

    files: dict[str, bytes]
    lfs: dict[str, str]
    title: str
    parent: str | None = None


@dataclass
class Repo:
    """A repository: branches, tags and pull requests point to commits."""

    kind: str
    name: str
    private: bool
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], lfs: dict[str, str], *, ref: str, title: str, parent: str | None) -> str:
        seed = f"{self.name}{ref}{title}{len(self.commits)}"
        sha = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[sha] = Commit(files, lfs, title, parent)
        self.refs[ref] = sha
        return sha

    def at(self, revision: str) -> tuple[str, Commit] | None:
        sha = self.refs.get(revision, revision)
        return (sha, self.commits[sha]) if sha in self.commits else None


@dataclass
class Hub:
    """What the server knows, and what a test may make it do wrong.

    Attributes:
        accounts: token -> name and role; `members` organisation -> names that may write.
        lose: paths that a commit leaves out; `spoil` paths that it stores changed.
        fail: part of a path -> status that every request to it gets.
        calls: method and path of each request; `seen` their headers and bodies as text, to look for secrets.
    """

    address: str = ""
    accounts: dict[str, tuple[str, str]] = field(
        default_factory=lambda: {WRITER: ("ann", "write"), READER: ("ann", "read"), STRANGER: ("bob", "write")}
    )
    members: dict[str, set[str]] = field(default_factory=lambda: {"team": {"ann"}})
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    store: dict[str, bytes] = field(default_factory=dict)
    lose: set[str] = field(default_factory=set)
    spoil: set[str] = field(default_factory=set)
    fail: dict[str, int] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def repo(self, name: str, kind: str = "model") -> Repo:
        return self.repos[kind, name]

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        found = self.repo(name).at(revision)
        assert found is not None
        return found[1].files

    def add(self, name: str, files: dict[str, bytes], *, private: bool = True, kind: str = "model", gated: bool = False) -> Repo:
        repo = self.repos[kind, name] = Repo(kind, name, private, gated)
        repo.commit(files, {}, ref="main", title="initial commit", parent=None)
        return repo


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(oid: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()


class _Handler(BaseHTTPRequestHandler):
    """Routes by pattern; each answer follows what huggingface_hub 0.36 and 2.4 read."""

    hub: Hub

    ROUTES: tuple[tuple[str, str, str], ...] = (
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/repos/create", "create"),
        ("DELETE", r"/api/repos/delete", "delete"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/preupload/(?P<rev>.+)", "preupload"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/commit/(?P<rev>.+)", "commit"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/branch/(?P<rev>.+)", "branch"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/tag/(?P<rev>.+)", "tag"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/paths-info/(?P<rev>.+)", "paths_info"),
        ("GET", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/refs", "refs"),
        ("GET", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/commits/(?P<rev>.+)", "commits"),
        ("GET", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/tree/(?P<rev>[^/]+)(/(?P<path>.*))?", "tree"),
        ("GET", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(/revision/(?P<rev>.+))?", "info"),
        ("POST", r"/((?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs/put/(?P<oid>[0-9a-f]{64})/(?P<ticket>\w+)", "lfs_put"),
        ("POST", r"/lfs/verify", "lfs_verify"),
        ("GET", r"/((?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve"),
    )

    # ---- dispatch ----

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        with self.hub.lock:
            self.hub.calls.append((self.command, self.path))
            broken = next((code for part, code in self.hub.fail.items() if part in self.path), None)
            if broken is not None:
                return self._error(broken, "", "The server is out of order.")
            method = "GET" if self.command == "HEAD" else self.command
            for wanted, pattern, name in self.ROUTES:
                if wanted == method and (match := re.fullmatch(pattern, path)):
                    parts = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                    getattr(self, "on_" + name)(**parts)
                    return None
            return self._error(404, "RepoNotFound", "Repository not found")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    def _send(self, status: int, headers: Headers, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200, headers: Headers | None = None) -> None:
        self._send(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())

    def _error(self, status: int, code: str, message: str, headers: Headers | None = None) -> None:
        marks = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self._json({"error": message}, status, marks)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    # ---- who asks, and for what ----

    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _account(self) -> tuple[str, str] | None:
        token = self._token()
        return self.hub.accounts.get(token) if token else None

    def _owns(self, name: str) -> bool:
        who, owner = self._account(), name.partition("/")[0]
        return who is not None and (who[0] == owner or who[0] in self.hub.members.get(owner, set()))

    def _repo(self, name: str, kind: str = "models", *, write: bool = False) -> Repo | None:
        """Return the repository, or answer with the error and return None."""
        repo = self.hub.repos.get((kind.removesuffix("s"), name))
        if repo is None or (repo.private and not self._owns(name)):
            self._error(404 if self._account() else 401, "RepoNotFound", "Repository not found")
            return None
        if repo.gated and not self._owns(name):
            self._error(403, "GatedRepo", f"Access to {name} is restricted.")
            return None
        who = self._account()
        if write and not (self._owns(name) and who is not None and who[1] == "write"):
            self._error(403, "", "You don't have the rights to write to this repository.")
            return None
        return repo

    def _commit(self, repo: Repo, revision: str) -> tuple[str, Commit] | None:
        found = repo.at(revision)
        if found is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    # ---- accounts and repositories ----

    def on_whoami(self) -> None:
        who = self._account()
        if who is None:
            return self._error(401, "", "Invalid user token.")
        orgs = [{"type": "org", "name": org, "roleInOrg": "write"} for org, names in self.hub.members.items() if who[0] in names]
        access = {"type": "access_token", "accessToken": {"displayName": "test", "role": who[1]}}
        return self._json({"type": "user", "name": who[0], "fullname": who[0], "orgs": orgs, "auth": access})

    def on_create(self) -> None:
        asked, who = json.loads(self.body), self._account()
        if who is None:
            return self._error(401, "", "Invalid user token.")
        name = f"{asked.get('organization') or who[0]}/{asked['name']}"
        kind = asked.get("type") or "model"
        if not self._owns(name) or who[1] != "write":
            return self._error(403, "", f"You don't have the rights to create a model under the namespace {name.partition('/')[0]!r}.")
        url = f"{self.hub.address}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if (kind, name) in self.hub.repos:
            return self._json({"error": "You already created this model repo", "url": url}, 409)
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.hub.add(name, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, private=private, kind=kind)
        return self._json({"url": url, "name": name, "id": name})

    def on_delete(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or (self._account() or ('',))[0]}/{asked['name']}"
        if self._repo(name, (asked.get("type") or "model") + "s", write=True) is not None:
            del self.hub.repos[asked.get("type") or "model", name]
            self._json({})

    def on_validate_yaml(self) -> None:
        text = json.loads(self.body)["content"]
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        try:
            head = YAML(typ="safe", pure=True).load(match[1]) if match else None
        except YAMLError as error:
            return self._json({"errors": [{"message": str(error)}], "warnings": []}, 400)
        problems = [] if head is None or isinstance(head, dict) else ["the head is no map"]
        texts = ("license", "library_name", "pipeline_tag")
        problems += [f'"{key}" must be a string' for key in texts if not isinstance((head or {}).get(key, ""), str)]
        return self._json({"errors": [{"message": one} for one in problems], "warnings": []}, 400 if problems else 200)

    # ---- writing ----

    def on_preupload(self, kind: str, name: str, rev: str) -> None:
        repo = self._repo(name, kind, write=True)
        found = self._commit(repo, rev) if repo else None
        if found is None:
            return
        answers = []
        for file in json.loads(self.body)["files"]:
            path, old = file["path"], found[1].files.get(file["path"])
            large = file["size"] > LFS_ABOVE or path in found[1].lfs
            oid = found[1].lfs.get(path) or (blob_id(old) if old is not None else None)
            answers.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid})
        self._json({"files": answers})

    def on_lfs_batch(self, name: str, kind: str = "models") -> None:
        if self._repo(name, kind, write=True) is None:
            return
        objects = []
        for one in json.loads(self.body)["objects"]:
            entry: dict[str, Any] = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.store:
                put = f"{self.hub.address}/lfs/put/{one['oid']}/ticket{len(self.hub.calls)}"
                entry["actions"] = {"upload": {"href": put}, "verify": {"href": f"{self.hub.address}/lfs/verify"}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def on_lfs_put(self, oid: str, ticket: str) -> None:
        if self.headers.get("Authorization"):
            return self._error(400, "", "A presigned address takes no Authorization header.")
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._error(400, "", "The content has another hash.")
        self.hub.store[oid] = self.body
        return self._send(200, {"ETag": f'"{oid}"'})

    def on_lfs_verify(self) -> None:
        asked = json.loads(self.body)
        held = self.hub.store.get(asked["oid"])
        self._json({}) if held is not None and len(held) == asked["size"] else self._error(404, "", "Object does not exist")

    def on_commit(self, kind: str, name: str, rev: str) -> None:
        repo = self._repo(name, kind, write=True)
        found = self._commit(repo, rev) if repo else None
        if repo is None or found is None:
            return
        lines = [json.loads(line) for line in self.body.decode().splitlines() if line]
        header = next(one["value"] for one in lines if one["key"] == "header")
        if header.get("parentCommit") not in (None, found[0]):
            return self._error(412, "", "The parent commit is not the newest.")
        files, lfs = dict(found[1].files), dict(found[1].lfs)
        for line in lines:
            self._apply(line["key"], line["value"], files, lfs)
        pull = "1" in parse_qs(urlsplit(self.path).query).get("create_pr", [])
        number = sum(ref.startswith("refs/pr/") for ref in repo.refs) + 1
        sha = repo.commit(files, lfs, ref=f"refs/pr/{number}" if pull else rev, title=header["summary"], parent=found[0])
        more = {"pullRequestUrl": f"{self.hub.address}/{name}/discussions/{number}"} if pull else {}
        return self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{sha}", "commitOid": sha, "success": True, **more})

    def _apply(self, key: str, value: dict[str, Any], files: dict[str, bytes], lfs: dict[str, str]) -> None:
        path = str(value.get("path", ""))
        if key in ("deletedFile", "deletedFolder"):
            for name in [one for one in files if one == path or one.startswith(path.rstrip("/") + "/")]:
                files.pop(name), lfs.pop(name, None)
        if key in ("file", "lfsFile") and path not in self.hub.lose:
            content = base64.b64decode(value["content"]) if key == "file" else self.hub.store[value["oid"]]
            files[path] = content + b"?" if path in self.hub.spoil else content
            lfs.pop(path, None)
            if key == "lfsFile":
                lfs[path] = hashlib.sha256(files[path]).hexdigest()

    def on_branch(self, kind: str, name: str, rev: str) -> None:
        self._point(kind, name, rev, json.loads(self.body or b"{}").get("startingPoint") or "main")

    def on_tag(self, kind: str, name: str, rev: str) -> None:
        self._point(kind, name, json.loads(self.body)["tag"], rev)

    def _point(self, kind: str, name: str, ref: str, start: str) -> None:
        repo = self._repo(name, kind, write=True)
        found = self._commit(repo, start) if repo else None
        if repo is None or found is None:
            return
        if ref in repo.refs:
            return self._error(409, "", "Reference already exists")
        repo.refs[ref] = found[0]
        return self._json({})

    # ---- reading ----

    def _entry(self, commit: Commit, path: str) -> dict[str, Any]:
        content, oid = commit.files[path], commit.lfs.get(path)
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
        if oid is not None:
            small = pointer(oid, len(content))
            entry |= {"oid": blob_id(small), "lfs": {"oid": oid, "size": len(content), "pointerSize": len(small)}}
        return entry

    def on_info(self, kind: str, name: str, rev: str = "main") -> None:
        repo = self._repo(name, kind)
        found = self._commit(repo, rev) if repo else None
        if repo is None or found is None:
            return
        siblings = []
        for path in sorted(found[1].files):
            sibling: dict[str, Any] = {"rfilename": path}
            if "blobs" in urlsplit(self.path).query:
                entry = self._entry(found[1], path)
                sibling |= {"size": entry["size"], "blobId": entry["oid"]}
                if lfs := entry.get("lfs"):
                    sibling["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
            siblings.append(sibling)
        when = "2026-01-01T00:00:00.000Z"
        facts = {"id": name, "modelId": name, "sha": found[0], "private": repo.private, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings}
        self._json({**facts, "lastModified": when, "createdAt": when, "gated": repo.gated}, headers={"X-Repo-Commit": found[0]})

    def on_tree(self, kind: str, name: str, rev: str, path: str = "") -> None:
        repo = self._repo(name, kind)
        found = self._commit(repo, rev) if repo else None
        if found is None:
            return
        below = [one for one in sorted(found[1].files) if not path or one.startswith(path + "/")]
        if path and not below:
            return self._error(404, "EntryNotFound", f"{path} does not exist", {"X-Repo-Commit": found[0]})
        return self._json([self._entry(found[1], one) for one in below])

    def on_paths_info(self, kind: str, name: str, rev: str) -> None:
        repo = self._repo(name, kind)
        found = self._commit(repo, rev) if repo else None
        if found is None:
            return
        form = self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded")
        paths = parse_qs(self.body.decode()).get("paths", []) if form else json.loads(self.body)["paths"]
        self._json([self._entry(found[1], one) for one in paths if one in found[1].files])

    def on_refs(self, kind: str, name: str) -> None:
        repo = self._repo(name, kind)
        if repo is not None:
            shown = [{"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": sha} for ref, sha in repo.refs.items() if not ref.startswith("refs/")]
            self._json({"branches": shown, "tags": [], "converts": []})

    def on_commits(self, kind: str, name: str, rev: str) -> None:
        repo = self._repo(name, kind)
        found = self._commit(repo, rev) if repo else None
        listed = []
        sha: str | None = found[0] if found else None
        while repo is not None and sha is not None:
            one = repo.commits[sha]
            listed.append({"id": sha, "title": one.title, "message": "", "authors": [], "date": "2026-01-01T00:00:00.000Z"})
            sha = one.parent
        if found is not None:
            self._json(listed)

    def on_resolve(self, name: str, rev: str, path: str, kind: str = "models") -> None:
        repo = self._repo(name, kind)
        found = self._commit(repo, rev) if repo else None
        if found is None:
            return
        sha, commit = found
        if path not in commit.files:
            return self._error(404, "EntryNotFound", f"{quote(path)} does not exist", {"X-Repo-Commit": sha})
        content, oid = commit.files[path], commit.lfs.get(path)
        headers = {"X-Repo-Commit": sha, "ETag": f'"{blob_id(content)}"'}
        if oid is not None:
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self._send(206, headers, content[start:])
        return self._send(200, headers, content)


@contextmanager
def local_hub() -> Iterator[Hub]:
    """Run a hub with the accounts ann (of the organisation team), her read-only token, and bob; gives the hub."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def small_hub() -> Iterator[str]:
    """Run a hub with a gated model and data set and a model of an unknown type; gives its address."""
    with local_hub() as hub:
        hub.add("team/gated", {}, private=False, gated=True)
        hub.add("team/gated", {}, private=False, gated=True, kind="dataset")
        unknown = json.dumps({"model_type": "llamo", "architectures": ["LlamoForCausalLM"]}).encode()
        hub.add("team/new", {"config.json": unknown}, private=False)
        yield hub.address
