"""What the house tests read: the modules of the library, their rooms, and what each of them imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "automodel"
WIDGETS = ROOT / "widgets" / "automodel_widgets"
SKIPPED = {"__pycache__", "node_modules", "build", "dist", "runs"}


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, its path, and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def where(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def room(self) -> str:
        """The first name below the package: `train` for `automodel.train.loop`, empty for the front door."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Import:
    """One imported module, as a dotted name, the line that imports it, and whether only a type checker sees it."""

    target: str
    line: int
    hint: bool = False


def files(suffixes: tuple[str, ...], *folders: str) -> list[Path]:
    """Return the files of the project with one of these endings, without environments, caches and run folders."""
    found = []
    for top in [ROOT / folder for folder in folders] if folders else [ROOT]:
        for path in sorted(top.rglob("*")):
            inner = path.relative_to(ROOT).parts
            hidden = any(part in SKIPPED or (part.startswith(".") and part != ".ci") for part in inner[:-1])
            if path.suffix in suffixes and not hidden and path.is_file():
                found.append(path)
    return found


@cache
def modules(package: Path = PACKAGE) -> tuple[Module, ...]:
    """Return every module of a package, parsed."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, ast.parse(path.read_text(encoding="utf-8"), filename=str(path))))
    return tuple(found)


def imports(module: Module, *, known: frozenset[str]) -> Iterator[Import]:
    """Yield every import of a module, also those inside functions and under TYPE_CHECKING, and those made by name."""
    hints = _type_checking_lines(module.tree)
    for node in ast.walk(module.tree):
        for target in _targets(module, node, known):
            line = node.lineno  # type: ignore[attr-defined]  # every node that has a target is a statement or a call
            yield Import(target, line, line in hints)


def _targets(module: Module, node: ast.AST, known: frozenset[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _base(module, node)
        return [submodule if (submodule := f"{base}.{alias.name}") in known else base for alias in node.names]
    if isinstance(node, ast.Call) and (name := _imported_by_name(node)) is not None:
        return [name]
    return []


def _type_checking_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            lines.update(range(node.body[0].lineno, (node.body[-1].end_lineno or 0) + 1))
    return lines


def _base(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.package.split(".")
    kept = package[: len(package) - (node.level - 1)]
    return ".".join([*kept, node.module] if node.module else kept)


def _imported_by_name(node: ast.Call) -> str | None:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
    if called not in ("import_module", "__import__") or not node.args:
        return None
    first = node.args[0]
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def known_names(package: Path = PACKAGE) -> frozenset[str]:
    """Return the dotted names of all modules of a package."""
    return frozenset(module.name for module in modules(package))
