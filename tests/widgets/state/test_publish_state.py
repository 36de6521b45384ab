"""Publishing without a Hub: what would be sent, what has to come first, the card, and a token that is nowhere kept."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from automodel.errors import RequestError
from automodel_widgets.state import publish
from automodel_widgets.state.publish import PublishState
from tests.widgets.fake_children import FakeChild
from tests.widgets.fake_runs import fake_run

TOKEN = "hf_verysecretverysecret"
MARK = "<!-- written by automodel, digest 0123456789abcdef -->\n"


@pytest.fixture(autouse=True)
def _children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "Child", FakeChild)
    monkeypatch.setattr(FakeChild, "made", [])
    monkeypatch.setattr(FakeChild, "answers", {})


def ended(state: PublishState) -> None:
    while state.poll():
        pass


def told(monkeypatch: pytest.MonkeyPatch, **answers: list[dict[str, Any]]) -> None:
    monkeypatch.setattr(FakeChild, "answers", answers)


def test_a_full_model_goes_out_as_it_was_saved(tmp_path: Path) -> None:
    state = PublishState(fake_run(tmp_path, points=(2,)))
    assert list(state.forms()) == ["full"]
    assert dict(state.files()).keys() == {"README.md", "config.json", "model.safetensors"}
    assert state.why_no_push() == "Name the repository first"
    state.target.repo_id = "a b"
    assert "letters" in (state.why_no_push() or "")
    state.target.repo_id = "ann/model"
    assert state.why_no_push() is None


def test_an_adapter_is_merged_before_it_goes_out_as_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = PublishState(fake_run(tmp_path / "runs", points=(2,), adapter=True))
    assert list(state.forms()) == ["adapter", "merged"]
    assert state.form == "adapter"
    state.take_form("merged")
    state.target.repo_id = "ann/model"
    assert state.why_no_push() == state.why_no_card() == "Merge the adapter first"
    made = tmp_path / "made"
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"12345")
    checked = {"kind": "checked", "prompt": "p", "trained": "a", "exported": "a", "same": True}
    told(monkeypatch, export=[{"kind": "written", "path": str(made)}, checked])
    state.folder = str(made)
    state.export()
    ended(state)
    assert state.files() == [("README.md", 0), ("model.safetensors", 5)]
    assert state.checks == [checked]
    assert state.why_no_push() is None
    state.push()
    assert FakeChild.made[-1].args[0] == str(made)


def test_the_token_goes_to_the_child_and_stays_nowhere(tmp_path: Path) -> None:
    state = PublishState(fake_run(tmp_path, points=(2,)))
    state.target.repo_id = "ann/model"
    state.push(f" {TOKEN} ")
    child = FakeChild.made[-1]
    assert child.args[-1] == TOKEN
    assert child.secrets == (TOKEN,)
    assert child.args[2] == {"private": True, "update": False, "checkpoint": "epoch_0_step_2"}
    kept = {name: value for name, value in vars(state).items() if name not in ("job", "_lock")}
    assert TOKEN.encode() not in pickle.dumps({name: repr(value) for name, value in kept.items()})


def test_an_error_and_a_result_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = PublishState(fake_run(tmp_path, points=(2,)))
    state.target.repo_id = "model"
    error = {"kind": "error", "what": "There is no token for the Hub.", "found": "", "expected": "", "fix": "hf auth login"}
    told(monkeypatch, push=[{"kind": "progress", "what": "model.safetensors", "share": 0.5}, error])
    state.push("")
    ended(state)
    assert state.job is not None
    assert state.job.problem == error
    assert state.pushed is None
    done = {"kind": "pushed", "repo_id": "ann/model", "url": "u", "commit": "c", "private": True, "files": {}, "notes": [], "pull_request": None}
    told(monkeypatch, push=[done])
    state.push("")
    ended(state)
    assert state.pushed == done


def test_the_card_is_written_edited_and_sent_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fake_run(tmp_path, points=(2,))
    state = PublishState(run)
    told(monkeypatch, card=[{"kind": "card", "text": f"---\ntags: [a]\n---\n\n# One\n{MARK}", "missing": ["license"]}])
    state.card.fields["intended_use"] = " Reading. "
    state.write_card()
    assert FakeChild.made[-1].args == (str(run.path), {"intended_use": "Reading.", "checkpoint": "epoch_0_step_2"})
    ended(state)
    assert state.card.missing == ("license",)
    path = run.path / "card" / "README.md"
    assert "digest" not in path.read_text(), "a push would write a card anew that still has its mark, without the fields"
    state.edit_card("# Mine\r\n")
    assert path.read_text() == "# Mine\n"
    assert state.card.edited
    assert PublishState(run).card.text == "# Mine\n"


def test_only_one_step_at_a_time_and_cancel_ends_it(tmp_path: Path) -> None:
    state = PublishState(fake_run(tmp_path, points=(2,)))
    state.target.repo_id = "model"
    state.push("")
    with pytest.raises(RequestError, match="Wait"):
        state.export()
    state.cancel()
    assert not state.busy


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    state = PublishState(fake_run(tmp_path))
    assert state.why_no_push() == state.why_no_export() == state.why_no_card() == "The run has no whole checkpoint yet"
    assert state.files() == []


def test_a_stored_login_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = PublishState(fake_run(tmp_path, points=(2,)))
    told(monkeypatch, account=[{"kind": "account", "stored": True}])
    state.look_for_login()
    ended(state)
    state.look_for_login()
    assert state.stored
    assert len(FakeChild.made) == 1
