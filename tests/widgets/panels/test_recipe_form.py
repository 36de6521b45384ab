"""The recipe form as HTML and actions."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from automodel_widgets.panels.recipe import RecipeForm
from automodel_widgets.state.fields import GROUPS, fields
from automodel_widgets.state.recipe import preset


class Seen(HTMLParser):
    """Collects ids, labels and what describes what."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.described: list[tuple[str, str]] = []
        self.controls: dict[str, dict[str, str | None]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "label":
            self.labelled.add(str(found.get("for")))
        if tag in ("input", "select", "textarea"):
            self.controls[str(found.get("id"))] = found
        self.described += [(str(found.get("id")), one) for one in str(found.get("aria-describedby") or "").split()]


@pytest.fixture
def form() -> RecipeForm:
    return RecipeForm(preset("demo_sft"))


def test_every_field_is_labelled_described_and_once(form) -> None:
    for group in GROUPS:
        form.handle("recipe.advanced", group, {})
    seen = Seen(form.html())
    assert len(seen.ids) == len(set(seen.ids))
    for name, control in seen.controls.items():
        assert name in seen.labelled or control.get("aria-label"), name
    assert {about for _, about in seen.described} <= set(seen.ids)
    shown = [field for field in fields() if field.id in seen.controls]
    assert len(shown) > 120
    assert "disabled" in seen.controls["recipe-peft-dim"]
    assert "recipe-peft-dim-why" in seen.ids


def test_advanced_is_folded_and_says_how_many_were_changed(form) -> None:
    html = form.html()
    assert "recipe-optimizer-betas" not in html
    assert "22 settings, 1 changed" in html or ", 1 changed" in html
    form.handle("recipe.advanced", "Schedule", {})
    assert "recipe-optimizer-betas" in form.html()
    assert 'aria-expanded="true"' in form.html()


def test_a_wrong_value_is_said_in_place(form) -> None:
    form.handle("recipe.set.optimizer.lr", "-1", {})
    seen = Seen(form.html())
    assert seen.controls["recipe-optimizer-lr"]["value"] == "-1"
    assert seen.controls["recipe-optimizer-lr"]["aria-invalid"] == "true"
    assert "1 to correct" in form.html()
    form.handle("recipe.reset", "optimizer.lr", {})
    assert Seen(form.html()).controls["recipe-optimizer-lr"]["value"] == "1e-5"


def test_the_effective_batch_is_a_number(form) -> None:
    assert "Effective batch: 16 rows" in form.html()
    form.session.learn("processes", 3)
    assert "cannot be dealt out" in form.html()


def test_texts_go_both_ways(form) -> None:
    form.handle("recipe.text.yaml", "optimizer:\n  lrr: 1\n", {})
    assert "<strong>Line 2:</strong>" in form.html()
    form.handle("recipe.drop", "yaml", {})
    assert "Line 2" not in form.html()
    form.handle("recipe.language", "command", {})
    assert "--optimizer.lr 0.001" in form.html()
    form.handle("recipe.language", "python", {})
    assert "automodel.Recipe(" in form.html()
    assert form.recipe is not None


def test_method_preset_reset_and_undo(form) -> None:
    form.handle("recipe.method", "lora", {})
    assert form.session.get("peft.dim") == 8
    assert "disabled" not in Seen(form.html()).controls["recipe-peft-dim"]
    form.handle("recipe.preset", "mock_smoke", {})
    assert form.session.get("dataset.name") == "mock"
    form.handle("recipe.undo", None, {})
    assert form.session.get("peft.dim") == 8
    form.handle("recipe.reset-all", None, {})
    assert "Before it can start" in form.html()


def test_what_is_typed_is_escaped(form) -> None:
    form.handle("recipe.set.run.name", "<script>x</script>", {})
    assert "<script>" not in form.html()


def test_the_twin_has_nothing_to_press(form) -> None:
    assert "<button" not in form.twin()


def test_a_secret_never_reaches_the_html(form) -> None:
    form.handle("recipe.text.yaml", "model: {pretrained_model_name_or_path: x}\nwandb: {api_key: abcdef}\n", {})
    assert "abcdef" not in form.html()
    assert "abcdef" not in repr(form.session.recipe)
