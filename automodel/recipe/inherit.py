"""What a recipe fills in from its own other parts, however it was made: the seed, and validation sets without a source."""

from __future__ import annotations

from typing import Any

from automodel.recipe.problems import Problem, problems_error
from automodel.recipe.sections import NONE_SPELLINGS, DatasetSection, Section

# A validation set without a source reads the training source, but never the same selection of it.
_OWN = ("split", "limit_dataset_samples")


def fill_in(data: dict[str, Any]) -> dict[str, Any]:
    """Return the sections with `rng.seed` as `seed` and validation sets completed from `dataset`."""
    data = dict(data)
    _seed(data)
    sets = _validation(data)
    train = _plain(data.get("dataset"))
    if sets is not None:
        data["validation_datasets"] = {name: inherit(value, train) for name, value in sets.items()}
    return data


def inherit(section: Any, train: Any) -> Any:
    """Return a validation set; without a source of its own it reads the training one, with the same preparation."""
    section = _plain(section)
    if not isinstance(section, dict) or not isinstance(train, dict):
        return section
    if any(_given(section, key) for key in ("path_or_dataset", "target", "_target_")) or section.get("name", train.get("name")) != train.get("name"):
        return section
    own = {key: value for key, value in section.items() if _given(section, key)}
    target = train.get("target") or train.get("_target_")
    if target:
        own["kwargs"] = {**train.get("kwargs", {}), **own.get("kwargs", {})}
    return {**{key: value for key, value in train.items() if key not in _OWN}, **own}


def inherited(data: dict[str, Any], filled: dict[str, Any]) -> dict[str, set[str]]:
    """Return the fields of each validation set that `fill_in` took from the training set: nobody wrote them, so nothing writes them out.

    Of a set that takes the callable of the training set it is the callable alone: to a callable, what is set is what it is called with.
    """
    written = _validation(dict(data)) or {}
    found = {}
    for name, section in (filled.get("validation_datasets") or {}).items():
        own = _plain(written.get(name))
        if isinstance(section, dict) and isinstance(own, dict):
            fields = {_field(key) for key in section} - {_field(key) for key in own if _given(own, key)}
            found[name] = {"target"} if "target" in fields else fields
    return found


def beyond_train(section: DatasetSection, train: DatasetSection) -> dict[str, Any]:
    """Return what a validation set that takes the callable of the training set says beyond that set."""
    fields = {name: getattr(section, name) for name in type(section).model_fields if name in section.model_fields_set}
    found = {name: value for name, value in fields.items() if name in _OWN or value != getattr(train, name)}
    kwargs = {key: value for key, value in section.kwargs.items() if key not in train.kwargs or train.kwargs[key] != value}
    return {**{name: value for name, value in found.items() if name != "kwargs"}, **({"kwargs": kwargs} if kwargs else {})}


def takes_callable(section: DatasetSection) -> bool:
    """Say whether a validation set has the callable of the training set."""
    return section.target is not None and "target" not in section.model_fields_set


def _field(key: str) -> str:
    return "target" if key == "_target_" else key


def _given(section: dict[str, Any], key: str) -> bool:
    value = section.get(key)
    return value is not None and not (isinstance(value, str) and value.strip().lower() in NONE_SPELLINGS)


def _plain(section: Any) -> Any:
    return section.model_dump(exclude_unset=True) if isinstance(section, DatasetSection) else section


def _seed(data: dict[str, Any]) -> None:
    rng = data.get("rng")
    if isinstance(rng, Section):
        rng = rng.model_dump(exclude_unset=True)
    if not isinstance(rng, dict) or rng.get("seed") is None:
        return
    inner = rng["seed"]
    if data.get("seed") is not None and str(data["seed"]) != str(inner):
        found = f"seed: {data['seed']} and rng.seed: {inner}"
        raise problems_error(
            [Problem(("seed",), "The recipe holds two different seeds.", found, "one seed", "remove one of the two")], source="recipe"
        )
    data["seed"] = inner
    rest = {key: value for key, value in rng.items() if key != "seed"}
    data["rng"] = rest or None


def _validation(data: dict[str, Any]) -> dict[str, Any] | None:
    sets = data.get("validation_datasets")
    if sets is not None and not isinstance(sets, dict):
        return None
    sets = dict(sets or {})
    for key in [key for key in data if key == "validation_dataset" or key.startswith("validation_dataset_")]:
        value = data.pop(key)
        if value is not None:
            sets[key.removeprefix("validation_dataset").removeprefix("_") or "validation"] = value
    return sets or None
