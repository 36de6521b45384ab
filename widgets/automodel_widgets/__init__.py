"""The notebook workbench of AutoModel. Importing it loads neither torch nor transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from automodel.version import __version__ as __version__

if TYPE_CHECKING:
    from automodel_widgets.panels.data import DataView as DataView
    from automodel_widgets.panels.launch import Launcher as Launcher
    from automodel_widgets.panels.lesson import Lesson as Lesson
    from automodel_widgets.panels.lr_finder import LRFinder as LRFinder
    from automodel_widgets.panels.memory import MemoryPlan as MemoryPlan
    from automodel_widgets.panels.model import ModelExplorer as ModelExplorer
    from automodel_widgets.panels.monitor import Monitor as Monitor
    from automodel_widgets.panels.playground import Playground as Playground
    from automodel_widgets.panels.publish import Publish as Publish
    from automodel_widgets.panels.recipe import RecipeForm as RecipeForm
    from automodel_widgets.panels.runs import Runs as Runs
    from automodel_widgets.workbench import Workbench as Workbench
else:
    _HOMES = {
        "DataView": "panels.data",
        "LRFinder": "panels.lr_finder",
        "Launcher": "panels.launch",
        "Lesson": "panels.lesson",
        "MemoryPlan": "panels.memory",
        "ModelExplorer": "panels.model",
        "Monitor": "panels.monitor",
        "Playground": "panels.playground",
        "Publish": "panels.publish",
        "RecipeForm": "panels.recipe",
        "Runs": "panels.runs",
        "Workbench": "workbench",
    }

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module 'automodel_widgets' has no attribute {name!r}", name=name)
        return globals().setdefault(name, getattr(import_module(f"automodel_widgets.{_HOMES[name]}"), name))

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})


__all__ = [
    "DataView",
    "LRFinder",
    "Launcher",
    "Lesson",
    "MemoryPlan",
    "ModelExplorer",
    "Monitor",
    "Playground",
    "Publish",
    "RecipeForm",
    "Runs",
    "Workbench",
    "__version__",
]
