from __future__ import annotations

from pathlib import Path

import pytest

from tests.auto.auto_help import FAMILIES, make_model


@pytest.fixture(scope="session", params=list(FAMILIES))
def family_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("family") / request.param, request.param)


@pytest.fixture(scope="session")
def llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("one") / "llama", "llama")
