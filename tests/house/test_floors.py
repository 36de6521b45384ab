"""Imports only go down the floors, and never round in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house.source import WIDGETS, Import, Module, imports, known_names, modules

FLOORS = {
    "errors": 0,
    "version": 0,
    "tables": 0,
    "spec": 0,
    "recipe": 0,
    "run": 0,
    "kernels": 1,
    "weights": 1,
    "nn": 2,
    "archs": 2,
    "registry": 2,
    "mesh": 3,
    "parallel": 3,
    "auto": 4,
    "peft": 4,
    "data": 4,
    "optim": 4,
    "checkpoint": 5,
    "hub": 5,
    "train": 6,
    "tasks": 7,
    "launch": 8,
    "demo": 8,
    "cli": 8,
    "__main__": 8,
}

# Doors between two rooms of the same floor, each with its reason. They may not form a circle.
SAME_FLOOR = {
    ("errors", "version"): "an error may name the version",
    ("spec", "errors"): "a spec refuses wrong sizes",
    ("recipe", "errors"): "a wrong recipe is explained",
    ("recipe", "version"): "a written recipe names the version",
    ("recipe", "spec"): "a recipe may name parts of a spec",
    ("run", "errors"): "a wrong request to a run is explained",
    ("run", "version"): "a run folder records the version",
    ("run", "recipe"): "a run folder holds a recipe",
    ("run", "tables"): "a run is shown as a table",
    ("archs", "nn"): "an architecture names the block kinds that it uses",
    ("registry", "archs"): "the registry finds the architectures",
    ("registry", "nn"): "the registry builds what it finds",
    ("checkpoint", "hub"): "an export keeps the facts that its card will need",
    ("parallel", "mesh"): "placements are given on the axes of a mesh",
    ("auto", "peft"): "`peft_config` of `from_pretrained` puts adapters on the model it builds",
    ("data", "auto"): "a dataset is read with the tokenizer of a model",
    ("demo", "launch"): "the demo is a job like any other, started like any other",
    ("cli", "demo"): "a command starts the demo",
    ("cli", "launch"): "a command starts a job",
    ("__main__", "cli"): "`python -m automodel` is the command",
}

NEVER = ("automodel_widgets", "ipywidgets", "IPython", "widgets")
WIDGETS_MAY = ("automodel.recipe", "automodel.run", "automodel.registry", "automodel.mesh.plan", "automodel.errors", "automodel.version")


def rooms_of(target: str) -> str | None:
    parts = target.split(".")
    return (parts[1] if len(parts) > 1 else "") if parts[0] == "automodel" else None


def fault(module: Module, found: Import) -> str | None:
    """Return what is wrong with an import of a module of the library, or None."""
    room, other = module.room, rooms_of(found.target)
    if found.target.split(".")[0] in NEVER:
        return "the library does not know the front ends"
    if other is None or room in ("", other):
        return None
    if other == "":
        return "the front door is for users: import the room that provides the name"
    if other not in FLOORS or room not in FLOORS:
        return "this room has no floor yet: enter it in FLOORS"
    if FLOORS[other] > FLOORS[room]:
        return f"floor {FLOORS[room]} imports floor {FLOORS[other]}"
    if FLOORS[other] == FLOORS[room] and (room, other) not in SAME_FLOOR:
        return f"no door between two rooms of floor {FLOORS[room]}"
    return None


def test_imports_only_go_down() -> None:
    known = known_names()
    wrong = [
        f"{module.where}:{found.line}: {found.target}: {why}"
        for module in modules()
        for found in imports(module, known=known)
        if (why := fault(module, found))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("from automodel.train import loop", "floor 4 imports floor 6"),
        ("def f():\n    import automodel.launch", "floor 4 imports floor 8"),
        ("import importlib\nimportlib.import_module('automodel.tasks.sft')", "floor 4 imports floor 7"),
        ("from ..cli import main", "floor 4 imports floor 8"),
        ("from automodel.optim import build_optimizer", "no door between"),
        ("from automodel import finetune", "front door"),
        ("import ipywidgets.widgets", "front ends"),
        ("from automodel.cellar import wine", "no floor yet"),
        ("from automodel.recipe import Recipe\nfrom . import rows\nimport torch", None),
    ],
)
def test_a_wrong_import_is_seen(source: str, why: str | None) -> None:
    module = Module("automodel.data.example", Path("automodel/data/example.py"), ast.parse(source))
    faults = [text for found in imports(module, known=known_names()) if (text := fault(module, found))]
    assert faults == [] if why is None else len(faults) == 1 and why in faults[0]


def test_every_room_has_a_floor() -> None:
    rooms = {module.room for module in modules()} - {""}
    assert rooms <= set(FLOORS), f"enter in FLOORS: {sorted(rooms - set(FLOORS))}"


def test_doors_on_a_floor_join_rooms_of_that_floor_and_form_no_circle() -> None:
    assert all(FLOORS[a] == FLOORS[b] for a, b in SAME_FLOOR)
    graph: dict[str, set[str]] = {}
    for a, b in SAME_FLOOR:
        graph.setdefault(a, set()).add(b)
    assert circle(graph) is None


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """Return one circle of a directed graph as a path that ends where it began, or None."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for following in sorted(graph.get(node, ())):
            found = walk(following, [*path, node])
            if found:
                return found
        done.add(node)
        return None

    return next((found for node in sorted(graph) if (found := walk(node, []))), None)


@pytest.mark.parametrize("package", ["automodel", "automodel_widgets"])
def test_no_import_circles(package: str) -> None:
    """Imports inside functions count: a circle that is put off is still a circle. Type hints do not, nor the front door, which only points."""
    folder = WIDGETS if package == "automodel_widgets" else WIDGETS.parents[1] / "automodel"
    known = known_names(folder)
    graph = {
        module.name: {
            found.target for found in imports(module, known=known) if found.target in known and not found.hint and found.target != module.name
        }
        for module in modules(folder)
        if module.name != "automodel"
    }
    found = circle(graph)
    assert found is None, " -> ".join(found or [])


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_the_widgets_package_uses_only_rooms_without_torch() -> None:
    known = known_names()
    found = [(module, one) for module in modules(WIDGETS) for one in imports(module, known=known)]
    wrong = [f"{module.where}:{one.line}: {one.target}" for module, one in found if not open_to_widgets(one.target)]
    assert not wrong, "\n".join(wrong)


def open_to_widgets(target: str) -> bool:
    if target.split(".")[0] != "automodel":
        return target.split(".")[0] not in ("torch", "transformers")
    return target == "automodel" or any(target == room or target.startswith(room + ".") for room in WIDGETS_MAY)
