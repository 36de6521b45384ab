"""The frame of a report: one HTML page that asks nothing of the network, in light and dark, on paper and at 150 % zoom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root{color-scheme:light dark;--ink:#1c1e21;--soft:#5b626b;--paper:#fff;--sheet:#f4f5f7;--line:#d7dbe0;--main:#1f5fbf;--check:#b3450b;--star:#8a6100;
--good:#1a7f37;--bad:#b42318;--busy:#8a6100}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a5adb8;--paper:#16181b;--sheet:#1f2226;--line:#3a4048;--main:#79aef5;--check:#f0a067;
--star:#f2c94c;--good:#5fd07f;--bad:#ff8a7a;--busy:#f2c94c}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem clamp(.75rem,3vw,2rem) 4rem;max-width:62rem;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.1rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--line);padding-bottom:.2rem}
h3{font-size:.95rem;margin:.2rem 0}p{margin:.4rem 0}.soft{color:var(--soft)}
.badge{display:inline-block;border:1.5px solid currentColor;border-radius:99px;padding:0 .6rem;font-weight:600;font-size:.9rem}
.finished{color:var(--good)}.failed{color:var(--bad)}.other{color:var(--busy)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;max-width:100%}
th,td{text-align:left;vertical-align:top;padding:.25rem .9rem .25rem 0;border-bottom:1px solid var(--line);overflow-wrap:break-word}
th{font-weight:600;color:var(--soft)}td.n,th.n{text-align:right}
pre,code{font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--sheet);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;overflow:auto;max-height:34rem;white-space:pre-wrap}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--soft)}summary:focus-visible{outline:2px solid var(--main);outline-offset:2px}
figure{margin:0 0 .6rem}figcaption{color:var(--soft);font-size:.9rem}
.many{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:1.2rem 1.6rem}
.key span{margin-right:1.2rem;white-space:nowrap}svg{width:100%;height:auto;display:block}
.key svg{width:26px;height:12px;display:inline-block;vertical-align:middle;margin-right:.35rem}
.grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}
.tick{fill:var(--soft);font:11px system-ui,sans-serif;font-variant-numeric:tabular-nums}
.raw{fill:none;stroke:var(--main);stroke-width:1;opacity:.45}.main{fill:none;stroke:var(--main);stroke-width:2;stroke-linejoin:round}
.check{fill:none;stroke:var(--check);stroke-width:2;stroke-dasharray:6 4}.check.mark{fill:var(--check);stroke:none}
.main.dot,.raw.dot{fill:var(--main);stroke:none}.check.dot{fill:var(--check);stroke:none}
.star{fill:var(--star);font-size:17px;text-anchor:middle}.restart{stroke:var(--soft);stroke-dasharray:2 4}
@media print{details{break-inside:avoid}pre{max-height:none}}
""".strip()
QUIET = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
SCRIPTED = "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src 'unsafe-inline' blob:; worker-src blob:"


def page(title: str, parts: Iterable[str], *, scripts: bool = False) -> str:
    """Return the whole page; its own rules forbid every request to the outside."""
    rules = SCRIPTED if scripts else QUIET
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{rules}"><title>{escape(title)}</title><style>{STYLE}</style></head>\n'
        f"<body><main>\n{chr(10).join(part for part in parts if part)}\n</main></body></html>\n"
    )


def heading(text: str) -> str:
    """Return the heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def facts(rows: Sequence[tuple[str, str]], *, caption: str = "") -> str:
    """Return label and text as a table."""
    cells = "".join(f"<tr><th scope='row'>{escape(label)}</th><td>{lines(text)}</td></tr>" for label, text in rows)
    return f"<div class='scroll'><table>{_caption(caption)}{cells}</table></div>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False, caption: str = "") -> str:
    """Return a table with a head line; `numbers` puts all but the first column to the right."""
    kind = " class='n'" if numbers else ""
    first = "".join(f"<th scope='col'{kind if place else ''}>{escape(cell)}</th>" for place, cell in enumerate(head))
    body = "".join("<tr>" + "".join(f"<td{kind if place else ''}>{lines(cell)}</td>" for place, cell in enumerate(row)) + "</tr>" for row in rows)
    return f"<div class='scroll'><table>{_caption(caption)}<tr>{first}</tr>{body}</table></div>"


def _caption(text: str) -> str:
    return f"<caption class='soft'>{escape(text)}</caption>" if text else ""


def folded(summary: str, inner: str, *, opened: bool = False) -> str:
    """Return something that is shown when asked for."""
    return f"<details{' open' if opened else ''}><summary>{escape(summary)}</summary>{inner}</details>"


def text_block(text: str) -> str:
    """Return text as it stands."""
    return f"<pre>{escape(text)}</pre>"


def lines(text: str) -> str:
    """Return text with its line breaks, without characters that no page may hold."""
    shown = "".join(mark if mark.isprintable() or mark in "\n\t" else "\N{REPLACEMENT CHARACTER}" for mark in text)
    return "<br>".join(escape(line) for line in shown.splitlines())
