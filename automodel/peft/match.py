"""Which linear layers a `peft` section means: names and globs, as NeMo AutoModel and peft users write them."""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from automodel.errors import RecipeError

if TYPE_CHECKING:
    from automodel.recipe.schema import PeftSection


@dataclass(frozen=True)
class LoraMatch:
    """The layers that get an adapter.

    Args:
        modules: full names, in the order of the model.
        targets: what goes into peft's `target_modules`: last names where those say the same, else full names.
        reason: one sentence on how the layers were chosen.
    """

    modules: tuple[str, ...]
    targets: tuple[str, ...]
    reason: str


def match_layers(model: nn.Module, section: PeftSection) -> LoraMatch:
    """Return the layers that the section means.

    A pattern matches a layer by its last name (`q_proj`), its full name, or as a glob over the full name (`*_proj`, `*.layers.0.*`).
    Layers that are frozen before any adapter is there get none.

    Raises:
        RecipeError: nothing matches, which would train nothing.
    """
    linear = _linear_names(model)
    head = _head_names(model)
    body = [name for name in linear if name not in head]
    if section.target_modules:
        chosen = [name for name in linear if _any(name, section.target_modules)]
        reason = f"target_modules {section.target_modules}"
    else:
        chosen, reason = body, "match_all_linear" if section.match_all_linear else "no target_modules: every linear layer except the head"
    if section.exclude_modules:
        _check_exclusions(linear, section.exclude_modules)
        chosen = [name for name in chosen if not _any(name, section.exclude_modules)]
        reason += f", without {section.exclude_modules}"
    frozen = {name for name in chosen if _frozen(model.get_submodule(name))}
    if frozen:
        chosen = [name for name in chosen if name not in frozen]
        reason += f", without {len(frozen)} frozen ones"
    if not chosen:
        raise _nothing(linear, section)
    return LoraMatch(tuple(chosen), _short(chosen, model), reason)


def _frozen(layer: nn.Module) -> bool:
    # The view of a combined projection has no parameter of its own to ask.
    held = list(layer.parameters())
    return bool(held) and not any(parameter.requires_grad for parameter in held)


def _any(name: str, patterns: list[str]) -> bool:
    last = name.rpartition(".")[2]
    return any(pattern in (last, name) or fnmatch.fnmatchcase(name, pattern) or name.endswith("." + pattern) for pattern in patterns)


def _check_exclusions(linear: list[str], patterns: list[str]) -> None:
    idle = [pattern for pattern in patterns if not any(_any(name, [pattern]) for name in linear)]
    if idle:
        raise RecipeError(
            "A pattern of peft.exclude_modules matches no layer, so it would exclude nothing.",
            found=", ".join(idle),
            expected="names or globs among: " + ", ".join(sorted({name.rpartition(".")[2] for name in linear})),
            fix="correct the pattern or remove it",
        )


def check_saved(model: nn.Module, names: list[str]) -> None:
    """Check that each name of `modules_to_save` is a module, as peft finds them: by the end of the full name.

    Raises:
        RecipeError: one is not, so it would be neither trained nor saved.
    """
    modules = [name for name, _ in model.named_modules() if name]
    idle = [name for name in names if not any(module.endswith(name) for module in modules)]
    if idle:
        last = sorted({module.rpartition(".")[2] for module in modules} - {str(number) for number in range(len(modules))})
        near = [hit for name in idle for hit in difflib.get_close_matches(name, last, n=1)]
        raise RecipeError(
            "A name in peft.modules_to_save is no module of the model, so it would be neither trained nor saved.",
            found=", ".join(idle),
            expected="names among: " + ", ".join(last),
            fix=f"peft.modules_to_save: [{', '.join(near)}]" if near else "correct the name or remove it",
        )


def _linear_names(model: nn.Module) -> list[str]:
    from transformers.pytorch_utils import Conv1D

    return [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]


def _head_names(model: nn.Module) -> set[str]:
    head = cast(Any, model).get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return {name for name, module in model.named_modules() if head is not None and module is head}


def _short(chosen: list[str], model: nn.Module) -> tuple[str, ...]:
    last_names = tuple(dict.fromkeys(name.rpartition(".")[2] for name in chosen))
    same = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in last_names]
    return last_names if same == chosen else tuple(chosen)


def _nothing(linear: list[str], section: PeftSection) -> RecipeError:
    names = sorted({name.rpartition(".")[2] for name in linear})
    near = [hit for pattern in section.target_modules or [] for hit in difflib.get_close_matches(pattern.strip("*."), names, n=1)]
    return RecipeError(
        "No layer of the model matches the LoRA targets, so nothing would be trained.",
        found=", ".join(f"{name} {value}" for name in ("target_modules", "exclude_modules") if (value := getattr(section, name)))
        or "no linear layer",
        expected="names or globs among: " + ", ".join(names),
        fix=f"peft.target_modules: [{', '.join(near)}]" if near else "peft.match_all_linear: true",
    )
