"""Reading the pages: fenced blocks with the marks that stand before them, and links.

A mark is an HTML comment on the line before a fence:

    <!-- test: skip REASON -->   not run here, and why
    <!-- test: exit 2 -->        the block is expected to end with this code
    <!-- file: NAME -->          the block is also written to this file, for the blocks after it
    <!-- ci: NAME -->            run by `.ci/run` instead
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = re.compile(r"<!-- (test|file|ci): (.+?) -->$")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page; `line` is that of its first line of text."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str]

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def skipped(self) -> bool:
        return "ci" in self.marks or self.marks.get("test", "").startswith("skip ")

    @property
    def exit_code(self) -> int:
        kind, _, code = self.marks.get("test", "").partition(" ")
        return int(code) if kind == "exit" else 0


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    marks: dict[str, str] = {}
    fence: tuple[str, int] | None = None
    kept: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if fence is not None:
            if line.strip() == "```":
                found.append(Block(page, fence[1], fence[0], "\n".join(kept) + "\n", marks))
                fence, marks = None, {}
            else:
                kept.append(line)
        elif line.startswith("```"):
            fence, kept = (line[3:].strip(), number + 1), []
        elif match := MARK.match(line):
            marks = {**marks, match[1]: match[2]}
        else:
            marks = {}
    return found


def links(page: Path) -> list[tuple[int, str]]:
    """Return the targets of the links and pictures of a page that point into this project, with their lines."""
    found = []
    inside = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        inside ^= line.startswith("```")
        if not inside:
            found += [(number, target) for target in re.findall(r"\]\(([^)\s]+)\)", line) if not re.match(r"[a-z]+:", target)]
    return found


def headings(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub spells them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
