"""Parts of the runs panel that only turn data into HTML."""

from __future__ import annotations

from automodel_widgets.parts.html import Html, button, choice, code, fold, note, table, tag, text
from automodel_widgets.state.runs import CURVES, RunRow, RunsState

# Column -> heading, and whether it holds numbers; the box to tick stands before them.
COLUMNS = {
    "name": ("Run", False),
    "state": ("State", False),
    "step": ("Step", True),
    "loss": ("Loss", True),
    "best": ("Best validation", True),
    "took": ("Time", True),
    "time": ("Started", False),
    "model": ("Model", False),
    "task": ("Task", False),
}
STUDENT_COLUMNS = {
    "student": ("Student", False),
    "": ("Runs", True),
    "state": ("State", False),
    "step": ("Step", True),
    "loss": ("Loss", True),
    "best": ("Best validation", True),
    "took": ("Time", True),
    "time": ("Newest run", False),
}


def head_row(columns: dict[str, tuple[str, bool]], state: RunsState, act: str) -> Html:
    """Return the headings, each a button that sorts."""
    cells = [tag("th", tag("span", "Choose", class_="am-hidden"), scope="col")]
    for key, (label, numeric) in columns.items():
        side = "am-num" if numeric else None
        if not key:
            cells.append(tag("th", text(label), scope="col", class_=side))
            continue
        here = state.sort == key
        order = ("descending" if state.down else "ascending") if here else "none"
        mark = tag("span", ("▼" if state.down else "▲") if here else "", aria_hidden="true")
        inner = tag(
            "button",
            f"{text(label)} {mark}",
            type="button",
            class_="am-sort",
            data_act=act,
            data_value=key,
            data_word=True,
            title=f"Sort by {label.lower()}",
        )
        cells.append(tag("th", inner, scope="col", class_=side, aria_sort=order))
    return tag("tr", "".join(cells))


def swatch(slot: int | None) -> Html:
    """Return a piece of the line that stands for a run in the chart; nothing for a run that is not drawn."""
    if slot is None:
        return ""
    line = f'<path class="am-line{slot}" d="M0 6L26 6"/>'
    return f'<svg class="am-key" viewBox="0 0 26 12" aria-hidden="true">{line}</svg> '


def overlay(state: RunsState, act: str) -> Html:
    """Return the curves of the ticked runs in one chart, with a legend and the same as a table."""
    drawn = state.overlay()
    pick = tag("label", "Curve ", for_="runs-curve") + choice("runs-curve", act, CURVES, state.curve)
    legend = "".join(tag("li", swatch(state.slot(row.key)) + text(row.label)) for row in state.chosen)
    how = "Lines: training, smoothed. Diamonds: validation." if state.curve == "loss" else "Lines: as logged at each step."
    if not drawn.svg:
        return tag("div", pick, class_="am-row") + note("None of these runs has this curve yet.")
    words = tag("ul", "".join(tag("li", text(one)) for one in drawn.sentences))
    numbers = table(drawn.head, drawn.table, caption="The curves as numbers", numbers=tuple(range(len(drawn.head))))
    twin = fold("The chart in words and numbers", words + numbers, key="runs-overlay-words")
    top = tag("div", tag("span", pick, class_="am-inline") + tag("span", how, class_="am-muted"), class_="am-row")
    return top + tag("ul", legend, class_="am-legend", aria_label="Legend") + tag("div", drawn.svg, class_="am-overlay") + twin


def explained(row: RunRow, act: str) -> Html:
    """Return why a run failed, and what to change, with a button where a setting can do it."""
    found = row.run.explain()
    fixes = []
    for place, remedy in enumerate(found.remedies):
        changes = f" {tag('code', text(' '.join(remedy.overrides)))}" if remedy.overrides else ""
        again = button("Rerun with this change", act, value=f"{place}:{row.key}", kind="quiet") if remedy.overrides else ""
        fixes.append(tag("li", tag("span", text(remedy.text) + changes) + (f" {again}" if again else "")))
    said = tag("strong", text(found.sentence)) + (tag("p", f"Likely cause: {text(found.cause)}") if found.cause else "")
    said += (tag("p", "What to try:") + tag("ol", "".join(fixes))) if fixes else ""
    raw = fold("The end of the log", code(found.raw[-6000:], label="Log of the failed run"), key=f"log:{row.key}") if found.raw else ""
    return note(said + raw, "bad")
