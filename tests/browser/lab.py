"""A real JupyterLab and a real Chromium: what a browser test drives, and what it finds out about the page."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--disable-gpu", "--no-sandbox", "--disable-dev-shm-usage", "--font-render-hinting=none", "--disable-background-timer-throttling"]
QUIET = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "doNotDisturbMode": True, "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension/plugin.jupyterlab-settings": {"autosave": False},
}
KERNELS = "@jupyterlab/services-extension/kernels-settings.jupyterlab-settings"
THEME = "@jupyterlab/apputils-extension/themes.jupyterlab-settings"
# What Chromium and JupyterLab say by themselves and is no fault of a page.
HARMLESS = ("favicon", "ResizeObserver loop", "Autofill", "webgl", "preload", "debugger state")


class Lab:
    """One JupyterLab server with a home of its own; its notebooks lie in `work`. `app` is lab, notebook (Notebook 7) or voila."""

    def __init__(
        self,
        folder: Path,
        *,
        app: str = "lab",
        subshells: str = "perCommTarget",
        theme: str = "JupyterLab Light",
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.app = app
        self.folder = folder
        self.extra = dict(extra or {})
        self.work = folder / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        settings = {**QUIET, KERNELS: {"commsOverSubshells": subshells}, THEME: {"theme": theme}}
        for name, value in settings.items():
            place = folder / "settings" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(value))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = (folder / "lab.log").open("wb")
        self._server = subprocess.Popen(self._command(), env=self.environment(), stdout=self._log, stderr=self._log, cwd=self.work)
        self._wait()

    def environment(self) -> dict[str, str]:
        """Return the environment of the server and so of its kernels."""
        home = self.folder / "home"
        names = {"HOME": "", "IPYTHONDIR": "ipython", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
        own = {name: str(home / part) for name, part in names.items()}
        own |= {"JUPYTERLAB_SETTINGS_DIR": str(self.folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(self.folder / "workspaces")}
        own |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "AUTOMODEL_RUNS": str(self.runs), "TOKENIZERS_PARALLELISM": "false"}
        own["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "widgets"), *filter(None, [os.environ.get("PYTHONPATH")])])
        home.mkdir(parents=True, exist_ok=True)
        return {**os.environ, **own, **self.extra}

    @property
    def runs(self) -> Path:
        """The root of the runs that its notebooks start."""
        return self.work / "runs"

    def notebook(self, name: str, cells: Sequence[str]) -> Path:
        """Write a notebook."""
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.work / name
        nbformat.write(made, path)
        return path

    def end_kernels(self) -> None:
        """End every kernel; those of Voila end with their page."""
        if self.app == "voila":
            return
        for kernel in self._api("GET", "/api/kernels"):
            self._api("DELETE", f"/api/kernels/{kernel['id']}")

    def close(self) -> None:
        """End the kernels and the server."""
        with contextlib.suppress(OSError):
            self.end_kernels()
        self._server.send_signal(signal.SIGTERM)
        try:
            self._server.wait(10)
        except subprocess.TimeoutExpired:
            self._server.kill()
        self._log.close()

    def address(self, name: str) -> str:
        """Return where a notebook is opened."""
        return self.url + {"lab": f"/lab/tree/{name}?reset", "notebook": f"/notebooks/{name}", "voila": f"/voila/render/{name}"}[self.app]

    def _command(self) -> list[str]:
        if self.app == "voila":
            return [sys.executable, "-m", "voila", "--no-browser", f"--port={self.port}", f"--Voila.root_dir={self.work}", str(self.work)]
        options = {
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.ip": "127.0.0.1",
            "IdentityProvider.token": "",
            "ServerApp.password": "",
            "ServerApp.disable_check_xsrf": "True",
            "ServerApp.root_dir": self.work,
            {"lab": "LabApp", "notebook": "JupyterNotebookApp"}[self.app] + ".expose_app_in_browser": "True",
            "ServerApp.open_browser": "False",
            "ServerApp.allow_root": "True",
        }
        return [sys.executable, "-m", "jupyter", self.app, "--no-browser", *(f"--{name}={value}" for name, value in options.items())]

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                self._answers()
                return
            except OSError:
                if self._server.poll() is not None:
                    break
                time.sleep(0.2)
        raise RuntimeError((self.folder / "lab.log").read_text())

    def _answers(self) -> None:
        if self.app == "voila":
            # Its pages run a notebook each, so nothing is asked of it but to be there.
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        else:
            self._api("GET", "/api/status")

    def _api(self, method: str, path: str) -> Any:
        request = urllib.request.Request(self.url + path, method=method, data=b"" if method == "POST" else None)
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body else None


@dataclass
class Notes:
    """What a page said and asked for while it was open."""

    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)


class Page:
    """A notebook in a browser tab."""

    def __init__(self, context: Any, lab: Lab) -> None:
        self.lab, self.notes = lab, Notes()
        self.page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.notes.errors.append("\n".join([str(error), *str(error.stack or "").splitlines()[1:6]])))
        self.page.on("request", self._request)
        self.page.on("websocket", lambda socket: socket.on("framereceived", lambda data: self.notes.received.append(len(data or b""))))

    def open(self, name: str) -> Page:
        """Open a notebook and wait for its kernel."""
        self.path = self.lab.work / name
        self.page.goto(self.lab.address(name))
        self.ready()
        return self

    def ready(self) -> None:
        """Wait until the notebook is there and its kernel is idle; Voila has run it then."""
        if self.lab.app == "voila":
            self.am.wait_for(timeout=60_000)
            return
        self.page.wait_for_function(
            """() => { const page = window.jupyterapp?.shell?.currentWidget;
            return page?.context?.isReady && page.sessionContext?.session?.kernel?.status === 'idle'; }""",
            timeout=60_000,
        )

    def run(self, index: int, *, wait: bool = True) -> None:
        """Run one cell, and wait for the kernel's answer."""
        self.page.evaluate("(i) => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i; }", index)
        script = "() => window.jupyterapp.commands.execute('notebook:run-cell')"
        if wait:
            self.page.evaluate(script)
        else:
            self.page.evaluate(f"() => {{ ({script})(); }}")

    def save(self) -> None:
        """Save the notebook."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def reload(self) -> None:
        """Save, as the timer of JupyterLab does, and load the page again."""
        self.save()
        self.page.reload()
        self.ready()

    def restart(self) -> None:
        """Restart the kernel, as the menu does."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self.ready()

    @property
    def out(self) -> Any:
        """The outputs; the source of a cell would match text as well."""
        return self.page.locator(".jp-OutputArea")

    @property
    def am(self) -> Any:
        """The panel."""
        return self.page.locator(".jp-OutputArea .am[data-surface]").first

    @property
    def panel(self) -> str:
        """The name of the panel, where it stands alone."""
        return str(self.am.locator("[data-panel]").first.get_attribute("data-panel"))

    def grows(self, selector: str, name: str) -> None:
        """Wait until a number that an element of the panel carries as data becomes larger."""
        self.am.locator(selector).wait_for()
        self.reaches(selector, name, 1 + int(self.am.locator(selector).evaluate("(node, name) => Number(node.dataset[name] || 0)", name)))

    def reaches(self, selector: str, name: str, least: int) -> None:
        """Wait until a number that an element of the panel carries as data is as large as this."""
        self.page.wait_for_function(
            """([selector, name, least]) => {
            const node = document.querySelector(`.jp-OutputArea .am[data-surface] ${selector}`);
            return Number(node?.dataset[name] || 0) >= least; }""",
            arg=[selector, name, least],
        )

    def theme(self, name: str) -> None:
        """Change the theme of JupyterLab, as its menu does."""
        self.page.evaluate("(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
        self.page.wait_for_function("(name) => document.body.dataset.jpThemeName === name", arg=name)
        # JupyterLab takes its splash away a little later, and fails when the next change comes before that.
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    def tab(self, tab: str, *, quiet: float = 0.6, seconds: float = 60) -> None:
        """Open a tab of the workbench and wait until nothing changes any more."""
        self.am.locator(f"#workbench\\.tab-tab-{tab}").click()
        self.am.locator(f"[data-panel={tab}]").wait_for()
        self.settled(quiet=quiet, seconds=seconds)

    def settled(self, *, quiet: float = 0.6, seconds: float = 60) -> None:
        """Wait until the panel has said the same for a while and is not at work."""
        last, since, end = "", time.monotonic(), time.monotonic() + seconds
        while time.monotonic() < end:
            now = self.am.inner_html()
            if now != last or 'aria-busy="true"' in now:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > quiet:
                return
            self.page.wait_for_timeout(150)

    def badge(self, word: str, *, seconds: float = 120) -> None:
        """Wait for a badge."""
        self.am.locator(".am-badge").filter(has_text=re.compile(rf"\b{word}$")).first.wait_for(timeout=1000 * seconds)

    def tile(self, name: str) -> str:
        """The value of a tile."""
        return str(self.am.locator(".am-tile", has=self.page.get_by_text(name, exact=True)).locator("dd").inner_text())

    def picture(self, path: Path) -> None:
        """Take a picture of the panel."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.am.screenshot(path=str(path), animations="disabled")

    def _console(self, message: Any) -> None:
        if message.type == "error" and not any(word in message.text for word in HARMLESS):
            self.notes.errors.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.lab.url, "ws://127.0.0.1", "data:", "blob:", "about:")):
            self.notes.outside.append(request.url)
