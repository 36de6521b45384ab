"""The pieces of the recipe form as HTML: a field with its unit, range, effect and reason, a group, and the recipe as text."""

from __future__ import annotations

from collections.abc import Callable

from automodel.recipe import RECIPES
from automodel_widgets.parts.html import Html, attributes, button, note, tag, text
from automodel_widgets.state import applies
from automodel_widgets.state.fields import Field, fields, section_label
from automodel_widgets.state.recipe import LANGUAGES, RecipeState

Act = Callable[[str], str]
RATES = ("1e-6", "5e-6", "1e-5", "2e-5", "5e-5", "1e-4", "2e-4", "5e-4", "1e-3")
HINTS = {
    "yaml": "Save it as a file and keep it with your work. Edits fill the form when you leave the box. "
    "What the form has no field for goes under <code>kwargs</code> of its section.",
    "command": "Run it in a terminal, beside the YAML saved as recipe.yaml. Or paste a command here: its overrides fill the form.",
    "python": "Run it in a cell. Or paste such a cell here: only its literal values are read, nothing is run.",
}
# Controls that take a whole line of the form.
_WIDE = ("lines",)


def setting(state: RecipeState, one: Field, act: Act) -> Html:
    """Return a field: label, unit, control, effect, range, its key, and what is wrong or why it does not apply."""
    why, error = state.why_not(one.path), state.error(one.path)
    about = " ".join([f"{one.id}-help", *([f"{one.id}-error"] if error else []), *([f"{one.id}-why"] if why else [])])
    inner = _control(state, one, act, disabled=why is not None, about=about, wrong=bool(error))
    if one.kind == "switch":
        top = tag("label", f"{inner} {text(one.label)}", class_="am-inline am-name-of", for_=one.id)
        inner = ""
    else:
        # "Learning rate (rate)" would say nothing
        unit = f' <span class="am-unit">{text(one.unit)}</span>' if one.unit and one.unit not in one.label.lower() else ""
        top = tag("label", text(one.label) + unit, for_=one.id, class_="am-name-of")
    mark = tag("span", "● changed", class_="am-mark") if state.changed(one.path) else ""
    reset = button("Reset", act("reset"), value=one.path, kind="quiet", aria_label=f"Reset {one.label}") if _can_reset(state, one) else ""
    head = tag("div", top + tag("span", mark + reset, class_="am-end am-row am-tight"), class_="am-field-head")
    below = tag("div", _help(one) + _why(one, why) + _error(one, error))
    return tag("div", head + inner + below, class_="am-field" + (" am-span" if one.kind in _WIDE else ""), data_key=f"field-{one.path}")


def _can_reset(state: RecipeState, one: Field) -> bool:
    return one.path in state.drafts or state.given(one.path)


def _help(one: Field) -> Html:
    usual = one.range[:1].upper() + one.range[1:]
    words = " ".join(part for part in (text(one.effect), f"{text(usual)}." if usual else "", f"<code>{text(one.path)}</code>") if part)
    return tag("div", words, class_="am-help", id=f"{one.id}-help")


def _why(one: Field, why: str | None) -> Html:
    return tag("div", f'<span aria-hidden="true">⊘</span> {text(why)}.', class_="am-help am-why", id=f"{one.id}-why") if why else ""


def _error(one: Field, error: str) -> Html:
    return tag("div", f'<span aria-hidden="true">✕</span> {text(error)}', class_="am-error", id=f"{one.id}-error", role="alert") if error else ""


def _control(state: RecipeState, one: Field, act: Act, *, disabled: bool, about: str, wrong: bool) -> Html:
    shown = state.shown(one.path)
    common: dict[str, object] = {
        "id": one.id,
        "data_field": act(f"set.{one.path}"),
        "disabled": disabled,
        "aria_describedby": about,
        "aria_invalid": "true" if wrong else None,
    }
    empty = one.text(one.default) if one.default not in (None, [], {}) else _empty(one)
    if one.kind == "switch":
        on = shown == "true" if shown else bool(one.default)
        return f"<input{attributes(type='checkbox', checked=on, **common)}>"
    if one.kind == "choice":
        return _choice(state, one, shown, common)
    if one.kind == "lines":
        return tag("textarea", text(shown), rows=3, placeholder="one a line", spellcheck="false", **common)
    numeric = "decimal" if one.kind in ("whole", "number") else None
    rates = "recipe-rates" if one.scientific and one.path.endswith("lr") else None
    return f"<input{attributes(type='text', value=shown, placeholder=empty, inputmode=numeric, list=rates, spellcheck='false', **common)}>"


def _empty(one: Field) -> str:
    """Return what an empty control means."""
    if one.kind == "data":
        return "{name: value}" if "map" in one.takes else "[a, b]" if "list" in one.takes else ""
    return {"list": "a, b", "whole": "automatic", "number": "automatic"}.get(one.kind, "") if not one.path.endswith("path_or_dataset") else ""


def _choice(state: RecipeState, one: Field, shown: str, common: dict[str, object]) -> Html:
    options = recipe_options() if one.path == "recipe" else one.options
    if state.absent(one.path) and "" not in dict(options):
        options = (("", "not set"), *options)
    inner = ""
    for value, label in options:
        why = applies.option_why_not(one.path, value, state.values)
        words = f"{label} ({why})" if why else label
        inner += tag("option", text(words), value=value, selected=value == shown, disabled=why is not None and value != shown)
    return tag("select", inner, data_value=shown, **common)


def recipe_options() -> tuple[tuple[str, str], ...]:
    """Return the kinds of job: the recipe's name -> words."""
    words = {name: applies.TASKS[task] + (", with images" if task == "kd" and name.endswith("VLM") else "") for name, task in RECIPES.items()}
    return tuple(words.items())


def method(state: RecipeState, act: Act) -> Html:
    """Return the choice of the method, which is no key of a recipe: it follows from its sections."""
    inner = ""
    for value, label in applies.METHODS.items():
        why = applies.method_why_not(value)
        inner += tag("option", text(f"{label} ({why})" if why else label), value=value, selected=value == state.method, disabled=why is not None)
    control = tag("select", inner, id="recipe-method", data_field=act("method"), data_value=state.method, aria_describedby="recipe-method-help")
    help_ = "Full learns most; LoRA takes a fraction of the memory and saves a small adapter. <code>peft</code>"
    label = tag("div", tag("label", "Method", for_="recipe-method", class_="am-name-of"), class_="am-field-head")
    return tag("div", label + control + tag("div", help_, class_="am-help", id="recipe-method-help"), class_="am-field")


def batch(state: RecipeState) -> Html:
    """Return the effective batch as a number, and what it is made of."""
    whole, local, accumulated, processes = state.batch()
    if accumulated != int(accumulated) or accumulated < 1:
        words = f"{whole} rows cannot be dealt out as {local} rows at once on {processes} process{'es' if processes > 1 else ''}."
        return note(f"<strong>Effective batch: {whole} rows.</strong> {text(words)}", "warn")
    made = f"{local} at once × {int(accumulated)} accumulated × {processes} process{'es' if processes > 1 else ''}"
    return note(f"<strong>Effective batch: {whole} rows</strong> = {text(made)}")


def group(state: RecipeState, name: str, act: Act, *, opened: bool) -> Html:
    """Return a group: its simple fields, and the others under a fold that says how many were changed."""
    mine = [one for one in fields() if one.group == name]
    simple = "".join(setting(state, one, act) for one in mine if one.simple)
    first = method(state, act) if name == "Method" else ""
    after = batch(state) if name == "Schedule" else ""
    body = tag("div", first + simple, class_="am-form") + after
    return tag("fieldset", tag("legend", text(name)) + tag("div", body + _advanced(state, name, mine, act, opened=opened), class_="am-stack"))


def _advanced(state: RecipeState, name: str, mine: list[Field], act: Act, *, opened: bool) -> Html:
    rest = [one for one in mine if not one.simple]
    if not rest:
        return ""
    changed = state.count_changed(name, simple=False)
    words = f"{'▾' if opened else '▸'} Advanced: {len(rest)} setting{'s' if len(rest) > 1 else ''}" + (f", {changed} changed" if changed else "")
    wrong = sum(bool(state.error(one.path)) for one in rest)
    words += f", {wrong} to correct" if wrong else ""
    fold = tag(
        "button",
        text(words),
        type="button",
        class_="am-link",
        data_act=act("advanced"),
        data_value=name,
        data_key=f"recipe-advanced-{name}",
        aria_expanded="true" if opened else "false",
    )
    return tag("div", fold + (_sections(state, rest, act) if opened else ""))


def _sections(state: RecipeState, rest: list[Field], act: Act) -> Html:
    sections: dict[str, list[Field]] = {}
    later: dict[str, str] = {}
    for one in rest:
        why = applies.section_why_not(one.section or one.path)
        if why is None or any(state.given(other.path) for other in fields() if other.section == one.section):
            sections.setdefault(one.section, []).append(one)
        else:
            name = one.section or one.path
            label = section_label(one.section) if one.section else one.label
            later[name] = tag("li", f"{text(label)} <code>{text(name)}</code>: {text(why[:1].lower() + why[1:])}")
    made = ""
    for section, members in sections.items():
        off = tag("span", " off until a field is set", class_="am-muted am-small") if _is_off(state, section) else ""
        made += tag("h4", text(section_label(section)) + off) + tag("div", "".join(setting(state, one, act) for one in members), class_="am-form")
    if later:
        made += tag("h4", "Not in this version yet") + tag("ul", "".join(later.values()), class_="am-plain am-small am-muted")
    return made


def _is_off(state: RecipeState, section: str) -> bool:
    some = next((one for one in fields() if one.section == section), None)
    return some is not None and state.absent(some.path) and state.why_not(some.path) is None


def rates() -> Html:
    """Return the learning rates that a field suggests."""
    return tag("datalist", "".join(f'<option value="{rate}"></option>' for rate in RATES), id="recipe-rates")


def written(state: RecipeState, language: str, act: Act) -> Html:
    """Return the recipe in a language, in a box that can be edited, with its problems by line."""
    draft, label = state.texts.get(language), LANGUAGES[language]
    shown = state.text(language)
    id_ = f"recipe-text-{language}"
    rows = min(max(shown.count("\n") + 2, 8), 34) if language != "command" else 14
    wrong = draft is not None and bool(draft.problems)
    box = tag(
        "textarea",
        text(shown),
        id=id_,
        rows=rows,
        data_field=act(f"text.{language}"),
        spellcheck="false",
        class_=None if language == "command" else "am-unwrapped",
        aria_label=f"The recipe as {label}",
        aria_describedby=f"{id_}-help",
        aria_invalid="true" if wrong else None,
        placeholder="" if shown or not state.problems else "Correct the fields first, or paste a text here.",
    )
    copy = tag("button", "Copy", type="button", class_="am-quiet", data_copy=f"#{id_}", data_label="Copy", aria_label=f"Copy the {label}")
    back = button("Drop this text", act("drop"), value=language, kind="quiet", title="Show the recipe of the form again") if wrong else ""
    use = button("Use this text", act("use"), value=language, kind="quiet", title="Fill the form from this text")
    row = tag("div", copy + use + back, class_="am-row")
    return tag(
        "div",
        tag("div", HINTS[language], class_="am-help am-muted am-small", id=f"{id_}-help") + box + row + problems(state, language),
        class_="am-stack am-tight",
    )


def problems(state: RecipeState, language: str) -> Html:
    """Return what is wrong with a text that was typed: line, problem, nearest key."""
    draft = state.texts.get(language)
    if draft is None or not draft.problems:
        return ""
    lines = "".join(
        tag("li", (f"<strong>Line {line}:</strong> " if line else "") + text(what) + (f" {text(fix[:1].upper() + fix[1:])}" if fix else ""))
        for line, what, fix in draft.problems
    )
    head = tag("p", "This text does not fit yet. It stays as you typed it; the form keeps the last recipe that fits.", class_="am-flush")
    return note(head + tag("ul", lines, class_="am-plain"), "bad", live=True)
