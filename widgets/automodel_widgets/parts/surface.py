"""The one widget of the workbench: regions of HTML made in Python and patched in the browser, and charts that grow by appended rows.

State that a view needs when it opens (page reload, second tab, saved notebook) is built only when it is asked for; in between go small messages.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import anywidget
import traitlets

from automodel_widgets.parts.columns import CHECK, TRAIN, Columns

STATIC = Path(__file__).parents[1] / "static"
# Rows of a run in the state that is read when a view opens, and that a saved notebook holds: more than a screen can show.
SNAPSHOT = 2000
_INNER = re.compile(r'data-region="([^"]+)"')
Handler = Callable[[str, Any, Mapping[str, str]], None]
MISSING = "export default {render({el}) { el.textContent = 'The front end is not built. Run: pip install -e .[notebook]'; }}"


def _asset(name: str) -> str:
    path = STATIC / name
    if not path.is_file():
        return MISSING if name.endswith(".js") else ""
    return path.read_text(encoding="utf-8")


class Surface(anywidget.AnyWidget):
    """Shows regions (name -> HTML) and boards (live curves), and calls `handler(name, value, fields)` for what the user does.

    `root` names the outermost region, which holds all the others. Every method may be called from any thread.
    """

    _esm = _asset("surface.js")
    _css = _asset("surface.css")
    _key = traitlets.Unicode().tag(sync=True)
    _root = traitlets.Unicode().tag(sync=True)
    _regions = traitlets.Dict().tag(sync=True, to_json=lambda _value, widget: widget.regions())
    _boards = traitlets.Dict().tag(sync=True, to_json=lambda _value, widget: widget.boards())

    def __init__(self, handler: Handler | None = None, *, root: str = "root") -> None:
        self._lock = threading.RLock()
        self._html: dict[str, str] = {}
        self._columns: dict[str, Board] = {}
        self._handler = handler
        super().__init__(_key=uuid4().hex, _root=root)
        self.on_msg(self._take)

    @property
    def key(self) -> str:
        """Return the name that ties this widget to its static twin."""
        return str(self._key)

    def regions(self) -> dict[str, str]:
        """Return every region as it stands."""
        with self._lock:
            return dict(self._html)

    def boards(self) -> dict[str, Any]:
        """Return every board as it stands, thinned to what a screen can show."""
        with self._lock:
            return {name: board.snapshot() for name, board in self._columns.items()}

    @property
    def lock(self) -> threading.RLock:
        """Hold it from making regions to showing them."""
        return self._lock

    def show(self, regions: Mapping[str, str]) -> None:
        """Show these regions; only those that changed are sent, each with the regions inside it: their places may be new and empty."""
        with self._lock:
            changed = {name: html for name, html in regions.items() if self._html.get(name) != html}
            self._html.update(changed)
            waiting = list(changed)
            for name in waiting:
                for inner in _INNER.findall(self._html[name]):
                    if inner in self._html:
                        changed.pop(inner, None)
                        changed[inner] = self._html[inner]
                        waiting.append(inner)
            if changed:
                self.send({"kind": "patch", "regions": changed})

    def forget(self, panel: str) -> None:
        """Forget the regions of a panel that left the page, so that they are sent again when it comes back."""
        with self._lock:
            self._html = {name: html for name, html in self._html.items() if name != panel and not name.startswith(f"{panel}.")}

    def focus(self, selector: str) -> None:
        """Move the keyboard to an element."""
        self.send({"kind": "focus", "selector": selector})

    def append(
        self, board: str, *, train: list[dict[str, Any]] | None = None, check: list[dict[str, Any]] | None = None, restarts: list[int] | None = None
    ) -> None:
        """Add rows of metrics to a board."""
        with self._lock:
            held = self._columns.setdefault(board, Board())
            held.restarts = held.restarts if restarts is None else restarts
            for split, rows, columns in (("train", train, held.train), ("check", check, held.check)):
                if rows:
                    start = len(columns)
                    columns.extend(rows)
                    head = {"kind": "append", "board": board, "split": split, "start": start, "n": len(rows), "restarts": held.restarts}
                    self.send(head, buffers=[columns.pack(start)])

    def reset(self, board: str) -> None:
        """Empty a board."""
        with self._lock:
            self._columns[board] = Board()
            self.send({"kind": "reset", "board": board})

    def settle(self) -> None:
        """Send the whole state once, so that a saved notebook holds the last curve."""
        self.send_state(["_regions", "_boards"])

    def _take(self, _widget: Any, message: Mapping[str, Any], _buffers: Any) -> None:
        if message.get("kind") == "resend":
            self._resend(str(message.get("board")))
        elif message.get("kind") == "act" and message.get("name") == "opened":
            # Patches do not reach the state that a further view of the same page starts from.
            self.settle()
        elif message.get("kind") == "act" and self._handler is not None:
            self._handler(str(message.get("name")), message.get("value"), message.get("fields") or {})

    def _resend(self, name: str) -> None:
        with self._lock:
            board = self._columns.get(name)
            if board is None:
                return
            self.send({"kind": "reset", "board": name})
            for split, columns in (("train", board.train), ("check", board.check)):
                if len(columns):
                    head = {"kind": "append", "board": name, "split": split, "start": 0, "n": len(columns), "restarts": board.restarts}
                    self.send(head, buffers=[columns.pack(0)])


class Board:
    """The rows of one run as columns."""

    def __init__(self) -> None:
        self.train = Columns(TRAIN)
        self.check = Columns(CHECK)
        self.restarts: list[int] = []

    def snapshot(self) -> dict[str, Any]:
        """Return what a view reads when it opens."""
        found: dict[str, Any] = {"restarts": self.restarts}
        for name, columns in (("train", self.train), ("check", self.check)):
            thin = columns.thin(SNAPSHOT)
            found |= {name: thin.pack(0), f"{name}_n": len(thin), f"{name}_total": len(columns)}
        return found
