"""Publishing: the model card, the check of a folder before it leaves this machine, and the push to a Hub.

Names are loaded on first use, so that a card can be written without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automodel.hub.card import ModelCard, model_card
    from automodel.hub.check import Checked, check_folder
    from automodel.hub.errors import HubFailed, HubRefused
    from automodel.hub.push import Pushed, push_to_hub
else:
    _PLACES = {
        "automodel.hub.card": ("ModelCard", "model_card"),
        "automodel.hub.check": ("Checked", "check_folder"),
        "automodel.hub.errors": ("HubFailed", "HubRefused"),
        "automodel.hub.push": ("Pushed", "push_to_hub"),
    }

    def __getattr__(name):
        for place, names in _PLACES.items():
            if name in names:
                from importlib import import_module

                value = getattr(import_module(place), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Checked", "HubFailed", "HubRefused", "ModelCard", "Pushed", "check_folder", "model_card", "push_to_hub"]
