"""The static copy of a panel: the same HTML without anything to press, shown where no kernel and no script run."""

from __future__ import annotations

import re

from automodel_widgets.parts.html import Html, tag, text
from automodel_widgets.parts.surface import STATIC

_BUTTONS = re.compile(r"<button\b(?P<about>[^>]*)>(?P<words>.*?)</button>", re.DOTALL)
_DIALOGS = re.compile(r"<dialog\b[^>]*>.*?</dialog>", re.DOTALL)
_CONTROLS = re.compile(r"<(input|select|textarea)\b")


def twin(html: Html, *, key: str, title: str) -> Html:
    """Return the copy; the live view hides it by `key`."""
    still = _CONTROLS.sub(r"<\1 disabled", _BUTTONS.sub(_words, _DIALOGS.sub("", html)))
    # The style of the charts is not needed here, and every byte is saved with the notebook.
    style = (STATIC / "surface.css").read_text(encoding="utf-8") if (STATIC / "surface.css").is_file() else ""
    head = tag("p", text(f"{title}: a copy as of the last update; run the cell for the live panel."), class_="am-muted")
    return f'<div data-surface-twin="{text(key)}"><style>{style}</style>{tag("div", head + still, class_="am")}</div>'


def _words(button: re.Match[str]) -> str:
    """Return what a button says where that is part of what the panel tells: a name in a table, the tab that is open."""
    if 'aria-selected="true"' in button["about"]:
        return f"<strong>{button['words']}</strong>"
    return button["words"] if " data-word" in button["about"] else ""
