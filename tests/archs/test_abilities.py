"""Capabilities and the coverage table come from the specs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from automodel.archs.abilities import capabilities_of
from automodel.registry import ModelRegistry
from tests.archs.cases import Case, each, spec_of


@each(variants=False)
def test_every_false_flag_has_a_reason(case: Case) -> None:
    found = capabilities_of(spec_of(case)).as_dict()
    why = found.pop("why")
    assert isinstance(why, dict)
    assert {name for name, value in found.items() if value is False} == set(why)
    assert found["lora"]
    assert found["packing"]


@pytest.mark.both_ends
def test_a_model_may_be_asked_for_in_every_form(tiny_model_dir: Path) -> None:
    import automodel

    model: Any = automodel.NeMoAutoModelForCausalLM.from_pretrained(tiny_model_dir)
    forms = (tiny_model_dir, str(tiny_model_dir), model.config, type(model), model)
    assert len({automodel.query_capabilities(form) for form in forms}) == 1
    hf = automodel.NeMoAutoModelForCausalLM.from_pretrained(tiny_model_dir, force_hf=True)
    found = automodel.query_capabilities(hf)
    assert not found.packing
    assert found.generate


def test_the_coverage_table_lists_the_registry() -> None:
    from automodel.cli.app import app

    done = CliRunner().invoke(app, ["coverage", "--json"])
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    assert [row["architecture"] for row in rows] == list(ModelRegistry)
    assert next(row for row in rows if row["architecture"] == "MiniCPM3ForCausalLM")["attention"] == "mla"
    assert next(row for row in rows if row["unverified"])["architecture"] == "StableLMAlphaForCausalLM"
