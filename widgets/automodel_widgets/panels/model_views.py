"""The pieces of the model panel: report, methods, layers drawn, parameters by part, config tree, tokenizer, kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automodel_widgets.parts.html import Html, Raw, badge, code, fold, note, table, tag, text
from automodel_widgets.state.model import (
    METHODS,
    Leaf,
    colours,
    differences,
    hits,
    matrix,
    ranges,
    short,
    stacks,
    tree,
    treemap,
)

TASKS = {
    "sft": "fine-tuning on answers (sft)",
    "seq_cls": "classification of texts (seq_cls)",
    "seq2seq": "from one text to another (seq2seq)",
    "vlm": "images and text (vlm)",
}
OPS = {
    "attention": "Attention",
    "sdpa": "Attention library",
    "norm": "Norms",
    "rope": "Positions (RoPE)",
    "mlp": "MLP",
    "experts": "Experts",
    "head": "Output layer",
}


def report(found: Mapping[str, Any]) -> Html:
    """Return evidence, what is missing with its fix, methods, and LoRA targets."""
    return tag("div", _missing(found) + _evidence(found) + _methods(found) + _lora(found), class_="am-stack")


def _missing(found: Mapping[str, Any]) -> Html:
    notes = []
    for at, gap in enumerate(found["missing"]):
        lines = [tag("strong", text(gap["what"]))]
        lines += [
            f"{tag('span', f'{label}:', class_='am-muted')} {text(gap[name])}"
            for name, label in (("found", "Found"), ("expected", "Expected"))
            if gap[name]
        ]
        fix = tag("div", "To mend it:", class_="am-muted") + code(gap["fix"], id_=f"model-fix-{at}", label="What mends it") if gap["fix"] else ""
        notes.append(note("<br>".join(lines) + fix, "bad" if found["implementation"] == "refused" else "warn"))
    return "".join(notes)


def _evidence(found: Mapping[str, Any]) -> Html:
    known = {True: "found", False: "none found", None: "not known: only a config was given"}
    template = {True: "found", False: "none: a plain prompt is used", None: known[None]}
    rows = [
        ("Kind", f"{found['kind']}: model type {found['model_type'] or 'not named'}, architecture {found['architecture'] or 'not named'}"),
        ("Built as", f"{found['class_name']} ({found['implementation']})" if found["class_name"] else "not built"),
        *(("Because", reason) for reason in found["reasons"]),
        ("Job", TASKS.get(str(found["task"]), str(found["task"]))),
        ("Tokenizer", known[found["tokenizer"]]),
        ("Chat template", template[found["chat_template"]]),
    ]
    return tag("section", tag("h3", "Evidence", class_="am-flush") + table(("What", "Seen"), rows, caption="Evidence"))


def _methods(found: Mapping[str, Any]) -> Html:
    head = ("Where", *(METHODS.get(method, method) for method in found["methods"]))
    rows = [(Raw(_place(name, what)), *(Raw(badge(word, kind)) for kind, word in cells)) for name, what, cells in matrix(found)]
    return tag("section", tag("h3", "What works") + table(head, rows, caption="Methods and placements"))


def _place(name: str, what: str) -> Html:
    return f"{tag('strong', text(name))} {tag('span', text(what), class_='am-muted')}"


def _lora(found: Mapping[str, Any]) -> Html:
    head = tag("h3", "LoRA targets")
    if not found["lora_targets"]:
        return tag("section", head + note("None: there is no linear layer that an adapter could stand beside."))
    share = found["lora_parameters"] / max(found["parameters"] or 1, 1)
    said = f"An adapter of rank 8 on all of them has {found['lora_parameters']:,} parameters, {share:.2%} of the model."
    rows = [(Raw(f"<code>{text(one['name'])}</code>"), one["count"], _shapes(one["shapes"])) for one in found["lora_targets"]]
    return tag("section", head + tag("p", said) + table(("Layer", "How many", "Input × output"), rows, caption="LoRA targets", numbers=(1,)))


def _shapes(shapes: list[list[int]]) -> str:
    return ", ".join(f"{a:,} × {b:,}" for a, b in shapes[:3]) + (", …" if len(shapes) > 3 else "")


# Structure.


def structure(found: Mapping[str, Any]) -> Html:
    """Return the layers drawn, and the parameters by part."""
    if not found["parts"]:
        return note("The model could not be built, so there is nothing to draw. The config and the report say more.")
    left = tag("h3", "Layers", class_="am-flush") + _drawing(found)
    right = tag("h3", "Parameters by part", class_="am-flush") + _map(found)
    return tag("div", tag("div", left, class_="am-stack") + tag("div", right, class_="am-stack am-top"), class_="am-split")


def _drawing(found: Mapping[str, Any]) -> Html:
    parts, colour = found["parts"], colours(found["parts"])
    vocabulary, hidden = _setting(found, "vocab_size"), _setting(found, "hidden_size", "n_embd", "d_model")
    sizes = f"{vocabulary:,} tokens × {hidden:,}" if isinstance(vocabulary, int) and isinstance(hidden, int) else ""
    boxes = [_box("Embedding", sizes, _count(parts, "embeddings"), colour.get("embeddings"))]
    boxes += [_stack(name, kinds) for name, kinds in stacks(found).items()]
    boxes.append(_box("Final norm", "", "", colour.get("norms")))
    tied = "" if "head" in parts else "shares the weights of the embedding"
    boxes.append(_box("Head", tied or sizes, _count(parts, "head"), colour.get("head")))
    return tag("ol", "".join(tag("li", box) for box in boxes), class_="am-flow", aria_label="The model from input to output")


def _box(name: str, what: str, count: str, colour: int | None) -> Html:
    mark = "" if colour is None else tag("span", "", class_=f"am-swatch am-c{colour}", aria_hidden="true")
    inner = tag("strong", text(name)) + (tag("span", text(what), class_="am-muted") if what else "")
    return tag("div", mark + inner + tag("span", text(count), class_="am-num am-end"), class_="am-box")


def _stack(name: str, kinds: list[Mapping[str, Any]]) -> Html:
    count = sum(len(kind["numbers"]) for kind in kinds)
    whole = sum(len(kind["numbers"]) * kind["parameters"] for kind in kinds)
    head = (
        tag("strong", f"{count} layers")
        + tag("span", f"<code>{text(name)}</code>", class_="am-muted")
        + tag("span", short(whole), class_="am-num am-end")
    )
    inner = "".join(_kind(kind, alone=len(kinds) == 1) for kind in kinds)
    return tag("div", tag("div", head, class_="am-row am-tight") + inner, class_="am-box am-layers")


def _kind(kind: Mapping[str, Any], *, alone: bool) -> Html:
    numbers = list(kind["numbers"])
    which = "each layer" if alone else f"{len(numbers)} × (layer {ranges(numbers)})"
    steps = [tag("span", text(_word(kind["mixer"] or _tower(kind["stack"]))), class_="am-step am-mixer")]
    if kind["feed"]:
        steps.append(tag("span", text(_word(kind["feed"])), class_="am-step am-feed"))
    arrow = tag("span", "→", class_="am-muted", aria_hidden="true")
    said = tag("span", f"{text(which)}, {short(kind['parameters'])} each", class_="am-muted am-small")
    return tag("div", tag("div", arrow.join(steps), class_="am-row am-tight") + said, class_="am-kind")


def _tower(stack: str) -> str:
    return "vision block" if "vis" in stack else "audio block" if "audio" in stack else "block"


def _word(name: str) -> str:
    return {"mlp": "MLP"}.get(name, name.capitalize())


def _count(parts: Mapping[str, int], name: str) -> str:
    return short(parts[name]) if name in parts else ""


def _setting(found: Mapping[str, Any], *names: str) -> Any:
    config = found["config"]
    inner = config.get("text_config") or {}
    return next((place[name] for name in names for place in (config, inner) if name in place), None)


def _map(found: Mapping[str, Any]) -> Html:
    parts, whole = found["parts"], found["parameters"]
    shown = colours(parts)
    boxes = []
    for one in treemap(parts):
        share = one.count / whole
        roomy = one.width > 16 and one.height > 24
        label = tag("span", f"{text(_word(one.name))}<br>{share:.1%}", class_="am-map-label") if roomy else ""
        place = f"left:{one.x:.2f}%;top:{one.y:.2f}%;width:{one.width:.2f}%;height:{one.height:.2f}%"
        boxes.append(tag("div", label, class_=f"am-c{shown[one.name]}", style=place, title=f"{_word(one.name)}: {one.count:,} ({share:.1%})"))
    drawn = tag("div", "".join(boxes), class_="am-map", role="img", aria_label="Treemap of the parameters; the table below says the same")
    rows = [
        (
            Raw(tag("span", "", class_=f"am-swatch am-c{at}", aria_hidden="true") + text(_word(part))),
            f"{parts[part]:,}",
            f"{parts[part] / whole:.1%}",
        )
        for part, at in shown.items()
    ]
    rows.append((Raw(tag("strong", "All")), f"{whole:,}", "100.0%"))
    return drawn + table(("Part", "Parameters", "Share"), rows, caption="Parameters by part", numbers=(1, 2))


# Config.


def config(data: Mapping[str, Any], query: str) -> Html:
    """Return the config as a tree, with what matches marked and open."""
    made = tree(data, query)
    count = hits(made, query)
    said = f"{count} found" if query.strip() else f"{len(made.children)} settings"
    inner = "".join(_leaf(child, query) for child in made.children)
    return tag("p", said, class_="am-muted am-flush", role="status") + tag(
        "div", tag("ul", inner), class_="am-tree am-card am-tall", tabindex="0", role="region", aria_label="Config"
    )


def _leaf(leaf: Leaf, query: str, above: str = "config") -> Html:
    name = _marked(leaf.name, query)
    if not leaf.children:
        return tag("li", f"<code>{name}</code> {tag('span', _marked(leaf.value, query))}")
    path = f"{above}.{leaf.name}"
    inner = tag("ul", "".join(_leaf(child, query, path) for child in leaf.children))
    return tag(
        "li",
        tag(
            "details",
            tag("summary", f"<code>{name}</code> {tag('span', text(leaf.value), class_='am-muted')}") + inner,
            open=leaf.found,
            data_key=path,
        ),
    )


def _marked(words: str, query: str) -> Html:
    wanted = query.strip().lower()
    at = words.lower().find(wanted) if wanted else -1
    if at < 0:
        return text(words)
    return text(words[:at]) + tag("mark", text(words[at : at + len(wanted)])) + text(words[at + len(wanted) :])


def compared(left: Mapping[str, Any], right: Mapping[str, Any], one: str, other: str) -> Html:
    """Return the settings in which two configs differ."""
    rows = differences(left, right)
    if not rows:
        return note("The two configs are the same.", "good")
    said = tag("p", f"{len(rows)} settings differ.", class_="am-muted am-flush", role="status")
    cells = [(Raw(f"<code>{text(name)}</code>"), a, b) for name, a, b in rows]
    return said + tag("div", table(("Setting", one, other), cells, caption="Settings that differ"), class_="am-wrap")


# Tokenizer and kernels.


def words(found: Mapping[str, Any], answer: Mapping[str, Any] | None) -> Html:
    """Return the tokenizer, its special tokens, its chat template and an example of what it makes of a conversation."""
    if not found["tokenizer"]:
        said = (
            "Only a config was given, so nothing is known of a tokenizer."
            if found["tokenizer"] is None
            else "There is no tokenizer beside the model."
        )
        return note(f"{said} Name one in the recipe: <code>tokenizer.pretrained_model_name_or_path</code>.", "warn")
    if answer is None:
        return note("Reading the tokenizer…", live=True)
    rows = [
        ("Class", answer["class_name"]),
        ("Vocabulary", f"{answer['vocabulary']:,} tokens"),
        *((name.replace("_", " "), token) for name, token in answer["special"].items()),
    ]
    facts = table(("What", "Value"), rows, caption="Tokenizer")
    kind = (
        "A conversation as the chat template writes it" if answer["template"] else "A sentence: there is no chat template, so prompts are plain text"
    )
    example = (
        tag("h3", text(kind), class_="am-flush")
        + code(answer["example"], label="Example")
        + tag("p", f"{len(answer['tokens'])} tokens:", class_="am-flush")
    )
    example += tag(
        "div",
        "".join(_token(token) for token in answer["tokens"]),
        class_="am-tokens",
        tabindex="0",
        role="region",
        aria_label="Tokens of the example",
    )
    template = (
        fold("The template itself", code(answer["template"], id_="model-template", label="Chat template"), key="model-template")
        if answer["template"]
        else ""
    )
    return tag("div", tag("div", facts, class_="am-stack") + tag("div", example + template, class_="am-stack am-top"), class_="am-split")


def _token(token: Mapping[str, Any]) -> Html:
    shown = text(str(token["text"]).replace("\n", "↵\n") or "▯")
    return tag("span", shown, class_="am-token am-outlined" + (" am-special" if token["special"] else ""), title=f"token {token['id']}")


def kernels(found: Mapping[str, Any]) -> Html:
    """Return what would run each operation on this machine, and why others would not."""
    if not found["kernels"]:
        return note("The model could not be built, so no kernel was chosen.")
    rows = []
    for row in found["kernels"]:
        chosen = tag("strong", text(row["chosen"])) + (f"<br>{tag('span', text(row['why']), class_='am-muted')}" if row["why"] else "")
        others = "".join(f"<li><code>{text(name)}</code>: {text(reason)}</li>" for name, reason in row["others"].items())
        rows.append((OPS.get(row["op"], row["op"]), Raw(chosen), Raw(tag("ul", others, class_="am-plain") if others else "-")))
    said = tag("p", "Kernels are the programs that compute one operation. These would be chosen on this machine, without any wish in the recipe.")
    return said + table(("Operation", "Would run", "Would not, because"), rows, caption="Kernels")
