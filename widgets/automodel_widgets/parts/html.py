"""Small pieces of HTML, each escaped where it takes text; a panel is put together from these, live and as a static twin alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Html = str
MARKS = {"good": "✓", "warn": "!", "bad": "✕", "busy": "…", "": ""}


def text(value: object) -> Html:
    """Return text, escaped."""
    return escape("" if value is None else str(value), quote=True)


def attributes(**values: object) -> str:
    """Return attributes for a tag: `data_act="x"` becomes data-act; None and False are left out, True has no value."""
    parts = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        plain = name.rstrip("_").replace("_", "-")
        parts.append(f" {plain}" if value is True else f' {plain}="{text(value)}"')
    return "".join(parts)


def tag(name: str, content: Html = "", /, **values: object) -> Html:
    """Return an element with ready HTML inside."""
    return f"<{name}{attributes(**values)}>{content}</{name}>"


def badge(word: str, kind: str = "") -> Html:
    """Return a badge: colour, a mark and a word; `kind` is good, warn, bad, busy or nothing."""
    mark = f'<span aria-hidden="true">{MARKS[kind]}</span> ' if MARKS[kind] else ""
    return f'<span class="am-badge{_kind(kind)}">{mark}{text(word)}</span>'


def note(content: Html, kind: str = "", *, live: bool = False) -> Html:
    """Return a message; `live` lets a screen reader speak it when it appears."""
    role = {"bad": "alert"}.get(kind, "status") if live else None
    return tag("div", content, class_=f"am-note{_kind(kind)}", role=role)


def button(
    label: str, act: str, *, value: object = None, kind: str = "", why_not: str | None = None, title: str | None = None, **more: object
) -> Html:
    """Return a button that sends `act`; `why_not` disables it and is read out and shown as its title."""
    return tag(
        "button",
        text(label),
        type="button",
        class_={"": None, "quiet": "am-quiet", "danger": "am-danger"}[kind],
        data_act=act,
        data_value=value,
        data_key=f"{act}:{value}",
        aria_disabled="true" if why_not else None,
        title=why_not or title,
        **more,
    )


def field(label: str, control: Html, *, id_: str, help_: str = "", error: str = "", changed: bool = False) -> Html:
    """Return a control with its label, its sentence of help and its error, tied together for a screen reader."""
    below = tag("div", text(help_), class_="am-help", id=f"{id_}-help") if help_ else ""
    wrong = tag("div", f"<span aria-hidden='true'>✕</span> {text(error)}", class_="am-error", id=f"{id_}-error") if error else ""
    return tag("div", tag("label", text(label), for_=id_) + control + below + wrong, class_="am-field" + (" am-changed" if changed else ""))


def entry(id_: str, name: str, value: object, *, kind: str = "text", described: bool = False, live: bool = False, **more: object) -> Html:
    """Return an input bound to `name`; `described` ties it to the help text of its field."""
    about = f"{id_}-help" if described else None
    return f"<input{attributes(id=id_, type=kind, data_field=name, data_live=live, value=value, aria_describedby=about, **more)}>"


def check(id_: str, name: str, label: str, value: bool, **more: object) -> Html:
    """Return a labelled check box."""
    box = f"<input{attributes(id=id_, type='checkbox', data_field=name, checked=value, **more)}>"
    return tag("label", f"{box} {text(label)}", class_="am-inline", for_=id_)


def choice(id_: str, name: str, options: Mapping[str, str] | Sequence[str], value: object, **more: object) -> Html:
    """Return a select bound to `name`; options are value -> label, or values."""
    pairs = options.items() if isinstance(options, Mapping) else [(option, option) for option in options]
    inner = "".join(tag("option", text(label), value=key, selected=str(key) == str(value)) for key, label in pairs)
    return tag("select", inner, id=id_, data_field=name, data_value=value, **more)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str, numbers: Sequence[int] = (), hide_caption: bool = True) -> Html:
    """Return a table; headings and cells are text, or HTML when wrapped in `Raw`. `numbers`: columns aligned as numbers."""
    numeric = set(numbers)
    names = [name if isinstance(name, Raw) else text(name) for name in head]
    top = "".join(tag("th", name, scope="col", class_="am-num" if i in numeric else None) for i, name in enumerate(names))
    body = "".join(tag("tr", "".join(_cell(cell, i in numeric) for i, cell in enumerate(row))) for row in rows)
    label = tag("caption", text(caption), class_="am-hidden" if hide_caption else None)
    return tag(
        "div",
        tag("table", label + tag("thead", tag("tr", top)) + tag("tbody", body)),
        class_="am-scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )


class Raw(str):
    """HTML that goes into a cell as it is."""


def tiles(pairs: Mapping[str, object]) -> Html:
    """Return name-value tiles."""
    inner = "".join(tag("div", tag("dt", text(name)) + tag("dd", text(value)), class_="am-tile") for name, value in pairs.items())
    return tag("dl", inner, class_="am-tiles")


def progress(share: float | None, label: str) -> Html:
    """Return a progress bar; `share` from 0 to 1, None when it is not known."""
    percent = 0 if share is None else round(100 * min(max(share, 0.0), 1.0))
    inner = f'<span style="width:{percent}%"></span>'
    return tag("div", inner, class_="am-progress", role="progressbar", aria_label=label, aria_valuemin=0, aria_valuemax=100, aria_valuenow=percent)


def fold(title: str, content: Html, *, opened: bool = False, key: str | None = None) -> Html:
    """Return content under a title that opens and closes."""
    return tag("details", tag("summary", text(title)) + content, open=opened, data_key=key or title)


def code(source: str, *, id_: str | None = None, label: str = "Code") -> Html:
    """Return source text that the keyboard can scroll; with an id, a button copies it."""
    body = tag("pre", text(source), id=id_, tabindex="0", role="region", aria_label=label)
    if id_ is None:
        return body
    copy = tag("button", "Copy", type="button", class_="am-quiet", data_copy=f"#{id_}", data_label="Copy", aria_label=f"Copy: {label}")
    return body + tag("div", copy, class_="am-row")


def tabs(name: str, options: Mapping[str, str], chosen: str, content: Html) -> Html:
    """Return a row of tabs that send `name`, and the chosen one's panel."""
    row = "".join(
        tag(
            "button",
            text(label),
            type="button",
            role="tab",
            id=f"{name}-tab-{key}",
            aria_selected="true" if key == chosen else "false",
            aria_controls=f"{name}-panel",
            tabindex="0" if key == chosen else "-1",
            data_act=name,
            data_value=key,
        )
        for key, label in options.items()
    )
    panel = tag("div", content, role="tabpanel", id=f"{name}-panel", aria_labelledby=f"{name}-tab-{chosen}", tabindex="0")
    return tag("div", row, role="tablist", aria_label=name.replace("-", " ")) + panel


def dialog(title: str, content: Html, *, act: str, key: str) -> Html:
    """Return a modal dialog; Escape sends `act` with "cancel"."""
    inner = tag("h2", text(title), id=f"{key}-title") + content
    return tag("dialog", inner, data_modal=act, data_key=key, aria_labelledby=f"{key}-title")


def region(name: str, content: Html = "") -> Html:
    """Return a part that is patched on its own."""
    return tag("div", content, data_region=name)


def _cell(cell: Any, numeric: bool) -> Html:
    inner = cell if isinstance(cell, Raw) else text(cell)
    return tag("td", inner, class_="am-num" if numeric else None)


def _kind(kind: str) -> str:
    return f" am-{kind}" if kind else ""
