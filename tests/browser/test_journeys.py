"""From a form to a published model, and what a person meets on the way, each in a real browser with real jobs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from automodel.run import Run, runs
from tests.browser.conftest import Desk
from tests.browser.jobs import DEMO, recipe, start, until
from tests.browser.lab import Lab, Page
from tests.hub_server import WRITER, local_hub
from tests.widgets.fake_runs import fake_run

PROMPT = "Who lives in the caves?"


def workbench(values: dict[str, object]) -> str:
    return f"from automodel_widgets import Workbench\nworkbench = Workbench({values!r})\nworkbench"


def finished(lab: Lab) -> Run:
    """Return a run that trained the embedded model to its end, made once."""
    found = [run for run in runs(lab.runs) if "-tuned-" in run.path.name and run.status.state == "finished"]
    run = found[0] if found else start(lab.runs, recipe("tuned", steps=8))
    assert run.wait(180).state == "finished"
    return run


def on_run(run: Run) -> list[str]:
    """Return the cells of a workbench that looks at a run."""
    return [workbench({}), f"import automodel\nworkbench.session.run = automodel.attach({str(run.path)!r})"]


def test_form_to_done(desk: Desk) -> None:
    page = desk.open([workbench(recipe("formed", steps=200))])
    page.tab("recipe")
    steps = page.am.locator("[data-panel=recipe] .am-field", has_text="step_scheduler.max_steps").locator("input").first
    steps.fill("7")
    steps.press("Tab")
    page.tab("launch")
    page.am.get_by_role("button", name="Check only").click()
    page.am.get_by_text("7 steps").wait_for()
    page.am.get_by_role("button", name="Start", exact=True).click()
    page.am.locator("[data-panel=monitor]").wait_for(timeout=120_000)
    page.badge("Finished")
    page.reaches("[data-board]", "rows", 7)
    assert page.tile("Step") == "7 / 7"
    page.reload()
    page.badge("Finished")
    page.reaches("[data-board]", "rows", 7)


def test_a_failure_is_explained_and_run_again_with_the_fix(desk: Desk) -> None:
    values = recipe("jumpy", steps=400, guards={"spike_factor": 1.0001, "spike_action": "stop"})
    failed = start(desk.lab.runs, values)
    assert failed.wait(120).state == "failed"
    page = desk.open([f"from automodel_widgets import Monitor\nMonitor({str(failed.path)!r})"])
    page.badge("Failed")
    page.am.get_by_text("The loss jumped").first.wait_for()
    page.am.get_by_role("button", name="Apply and rerun: lower the learning rate").click()
    again = until(lambda: next((run for run in runs(desk.lab.runs) if "-jumpy-" in run.path.name and run.id != failed.id), None))
    page.am.get_by_role("heading", name=again.path.name).wait_for(timeout=60_000)
    assert "lr: 0.00033" in again.folder.recipe_path.read_text()
    again.stop(save=False)


def test_data_without_a_trained_token_is_refused(desk: Desk) -> None:
    rows = desk.lab.work / "masked.jsonl"
    row = {"messages": [{"role": "user", "content": "Hello"}, {"role": "user", "content": "Is anybody there?"}]}
    rows.write_text("".join(json.dumps(row) + "\n" for _ in range(8)))
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    page = desk.open([workbench(recipe("masked", dataset={"name": "chat", "path_or_dataset": str(rows), "chat_template": template}))])
    page.tab("data", quiet=1.5)
    page.am.locator("[data-panel=data] .am-badge.am-bad").first.wait_for()
    page.am.get_by_text("no token of these data would be trained on").first.wait_for()
    page.tab("launch")
    button = page.am.get_by_role("button", name="Start (the data hold nothing to train on)")
    assert button.get_attribute("aria-disabled") == "true"


def large_model(folder: Path) -> Path:
    """Write the config of a model of a billion parameters, without weights, and the tokenizer."""
    shutil.copytree(DEMO / "model", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 64,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_does_not_fit_is_made_to_fit(desk: Desk) -> None:
    large = large_model(desk.lab.work / "large")
    page = desk.open([workbench(recipe("large", model={"pretrained_model_name_or_path": str(large)}))])
    page.tab("memory", quiet=1.5)
    limit = page.am.get_by_label("Plan for a device with, GB")
    limit.fill("8")
    limit.press("Tab")
    verdict = page.am.locator("[data-region='memory.head'] .am-badge")
    verdict.filter(has_text="does not fit").wait_for()
    page.am.locator("tr", has=page.page.get_by_text(re.compile("fits$"))).get_by_role("button", name="Apply").first.click()
    verdict.filter(has_text=re.compile("fits$")).wait_for()
    page.tab("recipe")
    page.am.get_by_text("changed").first.wait_for()


def test_two_runs_compared(desk: Desk) -> None:
    for name, lr in (("slow", 1e-5), ("fast", 1e-3)):
        fake_run(desk.lab.runs, f"pair-{name}", lr=lr, losses=(3.0, 2.5, 2.0))
    page = desk.open([workbench({})])
    page.tab("runs")
    for name in ("pair-slow", "pair-fast"):
        page.am.locator("tr", has_text=name).get_by_role("checkbox").check()
        page.settled()
    page.am.get_by_text("optimizer.lr").first.wait_for()
    assert page.am.locator(".am-overlay svg").count() >= 1


def test_the_base_model_against_the_tuned_one(desk: Desk) -> None:
    page = desk.open(on_run(finished(desk.lab)))
    page.tab("playground")
    page.am.get_by_label("Prompts").fill(PROMPT)
    page.am.get_by_label("Prompts").press("Tab")
    page.settled()
    page.am.get_by_role("button", name="Ask both models").click()
    answers = page.am.locator(".am-answers .am-answer")
    answers.nth(1).wait_for(timeout=90_000)
    until(lambda: all(text.strip() for text in answers.all_inner_texts()) and answers.count() >= 2)


def holding(root: Path, word: str) -> list[str]:
    """Return the files below a folder that hold a word."""
    return [str(path) for path in root.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


def test_a_model_is_pushed_and_no_file_holds_the_token(desk: Desk) -> None:
    run = finished(desk.lab)
    with local_hub() as hub:
        setup = f"import os\nos.environ |= {{'HF_ENDPOINT': {hub.address!r}, 'HF_HUB_OFFLINE': '0'}}"
        page = desk.open([setup, *on_run(run)])
        page.tab("publish")
        page.am.get_by_role("textbox", name="Repository").fill("ann/tuned")
        page.am.get_by_role("textbox", name="Repository").press("Tab")
        page.settled()
        page.am.get_by_label("Token with the right to write").fill(WRITER)
        page.am.get_by_role("button", name="Push").click()
        page.am.get_by_text("Published.").wait_for(timeout=120_000)
        assert page.am.get_by_label("Token with the right to write").input_value() == ""
        assert any(repo.name == "ann/tuned" and repo.private for repo in hub.repos.values())
    page.save()
    assert holding(desk.lab.folder, WRITER) == []


@pytest.mark.parametrize("kind", ["Monitor", "Workbench"])
def test_a_saved_notebook_without_a_kernel_shows_the_result(desk: Desk, kind: str) -> None:
    run = finished(desk.lab)
    cells = [f"from automodel_widgets import Monitor\nMonitor({str(run.path)!r})"] if kind == "Monitor" else on_run(run)
    page = desk.open(cells)
    if kind == "Workbench":
        page.tab("monitor")
    page.badge("Finished")
    page.settled()
    page.save()
    page.page.close()
    desk.lab.end_kernels()
    again: Page = desk.tab(page.path.name)
    twin = again.out.locator("[data-surface-twin]").first
    twin.wait_for()
    assert twin.locator("svg path").count() >= 1
    assert f"{run.status.loss:.4g}" in twin.inner_text()
    again.notes.errors.clear()  # the widget itself has no kernel to come from
