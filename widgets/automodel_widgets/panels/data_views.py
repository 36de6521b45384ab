"""The pieces of the data panel: rows, token chips, the histogram of lengths, and what filling costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from automodel_widgets.parts.html import Html, Raw, attributes, button, choice, fold, note, table, tag, text
from automodel_widgets.state.data import DataState, Packing, image_words, percent, stretches

Act = Callable[[str], str]
OPEN, CLOSE = "⟦", "⟧"
# Size of the drawing in its own units; the page scales it.
WIDE, HIGH, FOOT = 640, 200, 34


def blocked(error: Mapping[str, str] | None) -> Html:
    """Return the message that nothing would be learned: the launch is blocked until that is mended."""
    said = tag("strong", "The launch is blocked: no token of these data would be trained on.", class_="am-loud")
    said += tag("p", "Every token is only read, so the model could not learn anything from them.")
    return note(said + _why(error or {}), "bad", live=True)


def wrong(error: Mapping[str, str]) -> Html:
    """Return why the data cannot be read."""
    return note(tag("strong", text(error["what"])) + _why({**error, "what": ""}), "bad", live=True)


def _why(error: Mapping[str, str]) -> Html:
    names = {"what": "Reason", "found": "Found", "expected": "Expected", "fix": "To mend it"}
    lines = [f"{tag('span', f'{label}:', class_='am-muted')} {text(error[name])}" for name, label in names.items() if error.get(name)]
    return tag("div", "<br>".join(lines)) if lines else ""


def rows(state: DataState, act: Act, *, as_text: bool, busy: bool) -> Html:
    """Return the rows of a page, and the open one in full."""
    listed = [
        (
            Raw(
                button(
                    f"Row {row['index']:,}", act("row"), value=row["index"], kind="" if row["index"] == state.row else "quiet", **_pressed(row, state)
                )
            ),
            f"{row['token_count']:,}",
            f"{row['trained_count']:,}",
            percent(row["trained_count"] / max(row["token_count"], 1)),
        )
        for row in state.rows
    ]
    caption = "Rows with the smallest share of trained tokens first" if state.order == "worst" else "Rows in their order"
    left = _controls(state, act) + table(("Row", "Tokens", "Trained", "Share"), listed, caption=caption, numbers=(1, 2, 3)) + _pager(state, act, busy)
    return tag(
        "div",
        tag("div", left, class_="am-stack") + tag("div", _open(state, act, as_text=as_text), class_="am-stack"),
        class_="am-split am-narrow-left",
    )


def _pressed(row: Mapping[str, Any], state: DataState) -> dict[str, str]:
    return {"aria_pressed": "true" if row["index"] == state.row else "false"}


def _controls(state: DataState, act: Act) -> Html:
    orders = {"first": "in their order", "worst": "worst first: least trained"}
    inner = tag("label", "Rows ", for_="data-order") + choice("data-order", act("order"), orders, state.order)
    if len(state.sets) > 1:
        inner += tag("label", "of ", for_="data-set") + choice("data-set", act("set"), sorted(state.sets), state.of)
    return tag("div", inner, class_="am-row")


def _pager(state: DataState, act: Act, busy: bool) -> Html:
    why = "Reading" if busy else None
    back = button("Previous", act("page"), value=state.page - 1, kind="quiet", why_not=why or ("This is the first page" if state.page == 0 else None))
    last = state.page >= state.pages - 1
    on = button("Next", act("page"), value=state.page + 1, kind="quiet", why_not=why or ("This is the last page" if last else None))
    place = tag("span", f"Page {state.page + 1:,} of {state.pages:,}", class_="am-muted am-num", aria_live="polite")
    return tag("div", back + place + on, class_="am-row")


def _open(state: DataState, act: Act, *, as_text: bool) -> Html:
    row = state.open_row
    if row is None:
        return note("Choose a row to see its tokens.")
    title = f"Row {row['index']:,}: {row['token_count']:,} tokens, {row['trained_count']:,} trained on"
    shapes = {"tokens": "Tokens", "text": "Text"}
    pick = "".join(
        button(
            label,
            act("shape"),
            value=key,
            kind="" if (key == "text") == as_text else "quiet",
            aria_pressed="true" if (key == "text") == as_text else "false",
        )
        for key, label in shapes.items()
    )
    head = tag("div", tag("h3", title, class_="am-flush") + tag("span", pick, class_="am-row"), class_="am-row am-between")
    images = row.get("images", [])
    return head + pictures(images) + (_as_text(row) if as_text else legend() + chips(row["tokens"], label=title, images=images))


def pictures(images: Sequence[Mapping[str, Any]]) -> Html:
    """Return the images of a row in their order, with names, sizes and tokens; those without a small picture in words alone."""
    if not images:
        return ""
    shown = []
    for number, image in enumerate(images):
        words = f"{image_words(number, image)}: {image['name']}, {image['width']} × {image['height']} pixels"
        small = f"<img{attributes(src=image['source'], alt=words, class_='am-picture')}>" if image["source"] else ""
        shown.append(tag("figure", small + tag("figcaption", text(words), class_="am-muted am-small"), class_="am-flush"))
    return tag("div", "".join(shown), class_="am-row am-pictures", role="group", aria_label="Images of the row")


def legend() -> Html:
    """Return what the marks of the tokens mean."""
    trained = tag("span", "trained on", class_="am-token am-trained")
    ignored = tag("span", "only read", class_="am-token am-outlined")
    lines = [f"{trained} Tinted, bold, underlined: the model learns to write it.", f"{ignored} Plain: context that the model reads, without a loss."]
    return tag("ul", "".join(tag("li", line) for line in lines), class_="am-legend am-muted am-small", aria_label="Marks of the tokens")


def chips(tokens: list[Mapping[str, Any]], *, label: str, images: Sequence[Mapping[str, Any]] = ()) -> Html:
    """Return tokens one by one, trained ones marked by colour, weight and a line below, runs of them read as emphasis; one chip for an image."""
    parts = []
    for trained, pieces, skipped in stretches(tokens):
        if "image" in pieces[0]:
            words = image_words(pieces[0]["image"], images[pieces[0]["image"]])
            parts.append(tag("span", text(words), class_="am-token am-outlined am-special", title=f"{words}, only read"))
            continue
        inner = "".join(_chip(token, trained) for token in pieces)
        parts.append(tag("strong", inner, class_="am-run") if trained else inner)
        if skipped:
            parts.append(tag("span", f" … {skipped:,} more tokens, only read … ", class_="am-muted am-gap"))
    return tag("div", "".join(parts), class_="am-tokens", role="region", tabindex="0", aria_label=label)


def _chip(token: Mapping[str, Any], trained: bool) -> Html:
    shown = str(token["text"]).replace("\n", "↵\n").replace("\t", "⇥\t") or "▯"
    title = f"token {token['id']}, {'trained on' if trained else 'only read'}"
    return tag("span", text(shown), class_="am-token am-trained" if trained else "am-token am-outlined", title=title)


def _as_text(row: Mapping[str, Any]) -> Html:
    parts = []
    for trained, pieces, skipped in stretches(row["tokens"]):
        at = pieces[0].get("image")
        said = text("".join(str(token["text"]) for token in pieces) if at is None else f"[{image_words(at, row['images'][at])}]")
        parts.append(tag("strong", f"{OPEN}{said}{CLOSE}") if trained else said)
        if skipped:
            parts.append(f" … {skipped:,} more tokens … ")
    body = tag("pre", "".join(parts), tabindex="0", role="region", aria_label="The row as text")
    return tag("p", f"The text as it is given to the model; what is trained on stands in {OPEN} {CLOSE}.", class_="am-muted am-flush") + body


def lengths(state: DataState, limit: Any) -> Html:
    """Return the histogram of lengths, in words and as a table, too."""
    bins = state.histogram()
    said = (
        f"Half of the rows have {state.quantile(0.5):,} tokens or fewer, nine of ten {state.quantile(0.9):,} or fewer; the longest has "
        f"{state.lengths[-1][0]:,}."
    )
    many = [(f"{low:,} to {high:,}" if high > low else f"{low:,}", f"{count:,}", percent(count / max(state.count, 1))) for low, high, count in bins]
    twin = fold("The same as a table", table(("Tokens", "Rows", "Share"), many, caption="Rows by length", numbers=(0, 1, 2)), key="data-lengths")
    return tag("p", text(said)) + _histogram(bins, limit if isinstance(limit, int) else None) + twin


def _histogram(bins: list[tuple[int, int, int]], limit: int | None) -> Html:
    most = max(count for _, _, count in bins)
    step = WIDE / len(bins)
    bars = []
    for at, (low, high, count) in enumerate(bins):
        tall = count / most * (HIGH - 20)
        title = tag("title", f"{low:,} to {high:,} tokens: {count:,} rows")
        bars.append(
            tag("rect", title, x=f"{at * step + 1:.1f}", y=f"{HIGH - tall:.1f}", width=f"{step - 2:.1f}", height=f"{tall:.1f}", class_="am-bar-fill")
        )
    low, high = bins[0][0], bins[-1][1]
    marks = _label(0, HIGH + 16, f"{low:,}", "start") + _label(WIDE, HIGH + 16, f"{high:,} tokens", "end")
    marks += _label(WIDE / 2, HIGH + 16, f"{(low + high) // 2:,}", "middle") + _label(0, 10, f"{most:,} rows", "start")
    if limit is not None and low <= limit <= high:
        x = (limit - low) / max(high - low, 1) * WIDE
        marks += tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=0, y2=HIGH, class_="am-limit")
        marks += _label(min(max(x, 60), WIDE - 60), HIGH + 31, f"limit {limit:,}", "middle")
    base = tag("line", x1=0, x2=WIDE, y1=HIGH, y2=HIGH, class_="am-base")
    label = f"Histogram of row lengths, {low:,} to {high:,} tokens; the table below says the same"
    return tag("svg", "".join(bars) + base + marks, viewBox=f"-2 -4 {WIDE + 4} {HIGH + FOOT + 6}", role="img", aria_label=label, class_="am-figure")


def _label(x: float, y: float, words: str, anchor: str) -> Html:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(words)}</text>'


def packing(found: Packing) -> Html:
    """Return how much of each step goes into filling, as bars and as a table."""
    ways = [
        (f"Rows filled to the longest of a batch of {found.batch}", found.padded_waste),
        (f"Rows packed into {found.length:,} tokens, about {found.packs:,} packs", found.packed_waste),
    ]
    said = tag("p", "Rows of a batch must have one length; what is filled up costs time and trains nothing. Packing puts several rows into one.")
    bars = "".join(_bar(label, waste) for label, waste in ways)
    lines = [(label, percent(1 - waste), percent(waste)) for label, waste in ways]
    twin = fold("The same as a table", table(("Way", "Your text", "Filling"), lines, caption="Filling", numbers=(1, 2)), key="data-packing")
    over = note(f"{found.too_long:,} rows are longer than {found.length:,} tokens and are not counted here.", "warn") if found.too_long else ""
    better = found.padded_waste - found.packed_waste
    advice = f"Packing would save about {percent(better)} of the work." if better > 0.05 else "Packing would save little here."
    how = f" It is switched on by <code>packed_sequence.packed_sequence_size: {found.length}</code>." if better > 0.05 else ""
    return tag("div", said + bars + over + tag("p", text(advice) + how) + twin, class_="am-stack am-measure")


def _bar(label: str, waste: float) -> Html:
    used = f'<span class="am-c0" style="width:{100 * (1 - waste):.2f}%"></span>'
    words = tag("div", tag("span", text(label)) + tag("strong", f"{percent(waste)} filling", class_="am-num"), class_="am-row am-between")
    return tag("div", words + tag("div", used, class_="am-bar am-hatched", role="img", aria_label=f"{label}: {percent(waste)} filling"))
