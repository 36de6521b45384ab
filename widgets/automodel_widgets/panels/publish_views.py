"""Parts of the publish panel that only turn data into HTML."""

from __future__ import annotations

import re

from automodel_widgets.parts.html import Html, Raw, badge, button, fold, note, progress, table, tabs, tag, text
from automodel_widgets.state.publish import Job, PublishState

_HEAD = re.compile(r"---[ \t]*\n(?P<head>.*?)\n---[ \t]*\n(?P<body>.*)", re.DOTALL)
_SUMMARY = re.compile(r"</?details>|<summary>(.*?)</summary>")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def size(count: int) -> str:
    """Return bytes as a person reads them."""
    for unit, limit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count} bytes"


def working(job: Job, act: str) -> Html:
    """Return what the step is doing, with a button that ends it."""
    share = progress(job.share, job.text) if job.share is not None else ""
    row = tag("span", text(job.text + "…"), role="status") + button("Cancel", act, kind="danger")
    return tag("div", row, class_="am-row") + share


def files(state: PublishState) -> Html:
    """Return what would be sent."""
    found = state.files()
    if not found:
        return ""
    total = size(sum(count for _, count in found))
    rows = [(name, size(count) if count else "written when it is sent") for name, count in found]
    listed = table(("File", "Size"), rows, caption="Files that would be sent", numbers=(1,))
    return fold(f"What would be sent: {len(found)} files, {total}", listed, key="publish-files", opened=len(found) <= 8)


def checks(state: PublishState) -> Html:
    """Return the answers of the trained and of the exported model."""
    if not state.checks:
        return ""
    rows = [
        (one["prompt"], one["trained"], one["exported"], Raw(badge("same", "good") if one["same"] else badge("different", "bad")))
        for one in state.checks
    ]
    good = all(one["same"] for one in state.checks)
    said = (
        "The exported model answers as the trained one." if good else "The exported model answers differently: do not publish it before you know why."
    )
    listed = table(("Prompt", "Trained model", "Exported model", ""), rows, caption="Answers of the trained and of the exported model")
    return note(said, "good" if good else "bad", live=True) + tag("div", listed, class_="am-answers")


def card_view(source: str, act: str, chosen: str, edit: str) -> Html:
    """Return the card, as readers will see it or to edit."""
    box = tag("textarea", text(source), rows=22, data_field=edit, aria_label="Model card, as Markdown", id="publish-card", spellcheck="true")
    shown = tag("div", rendered(source), class_="am-card am-markdown", tabindex="0", role="region", aria_label="Model card")
    return tabs(act, {"preview": "Preview", "edit": "Edit"}, chosen, box if chosen == "edit" else shown)


def rendered(source: str) -> Html:
    """Return a card's Markdown as HTML; any HTML inside it is shown as text."""
    from markdown_it import MarkdownIt

    found = _HEAD.match(source)
    body = _COMMENT.sub("", found["body"] if found else source)
    body = _SUMMARY.sub(lambda match: f"**{match[1]}**" if match[1] else "", body)
    made = str(MarkdownIt("commonmark", {"html": False}).enable("table").render(body))
    # Headings of the panel stand above those of the card, and a wide table scrolls by itself.
    made = re.sub(r"<(/?)h([1-4])>", lambda match: f"<{match[1]}h{min(int(match[2]) + 2, 6)}>", made)
    made = made.replace("<table>", '<div class="am-scroll"><table>').replace("</table>", "</table></div>")
    made = made.replace("<th></th>", "<td></td>").replace("<a href=", '<a target="_blank" rel="noopener" href=')
    head = fold("What the Hub reads", tag("pre", text(found["head"]), tabindex="0"), key="publish-head") if found else ""
    return made + head


def pushed(state: PublishState) -> Html:
    """Return what arrived."""
    done = state.pushed
    if done is None:
        return ""
    link = tag("a", text(done["url"]), href=done["url"], target="_blank", rel="noopener")
    what = f"{len(done['files'])} files, {size(sum(done['files'].values()))}: names, sizes and hashes are those that were sent."
    commit = tag("code", text(done["commit"][:12]))
    said = f"{tag('strong', 'Published.')} {link} ({'private' if done['private'] else 'public'}), commit {commit}. {text(what)}"
    notes = "".join(tag("li", text(one)) for one in done["notes"])
    return note(said + (tag("ul", notes) if notes else ""), "good", live=True)
