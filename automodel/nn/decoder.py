"""The decoder: embedding, layers in order, final norm; and where it and the head lie in a model's module tree.

B rows, T queries, N hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from automodel.nn.block import Block
from automodel.nn.head import Head
from automodel.nn.norm import Norm
from automodel.nn.qkv import table_for_heads
from automodel.nn.rope import Rotary
from automodel.nn.view import View, attach, part
from automodel.spec import DecoderSpec


@dataclass(frozen=True, eq=False)
class Hidden:
    """What a decoder returns: `last` [B, T, N] after the final norm; `all` the inputs of every layer and then `last`, if they were asked for."""

    last: Tensor
    all: tuple[Tensor, ...] | None = None


class Decoder(nn.Module):
    """Token ids or embeddings -> hidden states; the module at `spec.names.base`, with all paths of the checkpoint below it.

    `gradient_checkpointing` and `_gradient_checkpointing_func` are set from outside, as transformers does for its own models.
    """

    gradient_checkpointing: bool
    _gradient_checkpointing_func: Callable[..., Any]

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.gradient_checkpointing = False
        names = spec.names
        self._embed, self._positions, self._embed_norm, self._layers, self._norm = (
            _inside(names.base, path) for path in (names.embed, names.positions, names.embed_norm, names.layers, names.norm)
        )
        attach(self, self._embed, nn.Embedding(spec.vocab, spec.hidden, padding_idx=spec.padding_idx))
        if spec.positions is not None:
            attach(self, self._positions, nn.Embedding(spec.positions, spec.hidden))
        if spec.embed_norm is not None:
            attach(self, self._embed_norm, Norm(spec.embed_norm, spec.hidden))
        layers = nn.ModuleList()
        index = 0
        for layer in spec.layers:
            layers.append(Block(layer, hidden=spec.hidden, names=names, index=index))
            index += layer.attention is not None and layer.attention.kind != "linear"
        attach(self, self._layers, layers)
        if spec.final_norm is not None:
            attach(self, self._norm, Norm(spec.final_norm, spec.hidden))
        # Tables without weights; kept out of the module tree, which is that of the checkpoint.
        self._ropes = tuple((rope, Rotary(rope)) for rope in spec.ropes)

    def forward(self, input_ids: Tensor | None = None, *, inputs_embeds: Tensor | None = None, view: View) -> Hidden:
        """Run all layers.

        Args:
            input_ids: [B, T]; or else
            inputs_embeds: [B, T, N], as the embedding gives them, before multiplier, learned positions and norm.
            view: positions, cache and masks of this pass.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        x = part(self, self._embed)(input_ids) if inputs_embeds is None else inputs_embeds
        x = self._embedded(x, view)
        # Rows that are one row in memory get one table.
        positions = view.positions if view.positions.stride(-2) else view.positions[..., :1, :]
        for rope, rotary in self._ropes:
            view.memo[rope] = table_for_heads(rotary(positions), x.dtype)
        x, kept = self._through_layers(x, view)
        if self.spec.final_norm is not None:
            x = part(self, self._norm)(x)
        return Hidden(last=x, all=None if kept is None else (*kept, x))

    def _embedded(self, x: Tensor, view: View) -> Tensor:
        spec = self.spec
        if spec.positions is not None:
            x = x + part(self, self._positions)(view.positions + spec.position_offset)
        if spec.embed_multiplier != 1.0:
            x = x * (torch.tensor(spec.embed_multiplier, dtype=x.dtype, device=x.device) if spec.embed_multiplier_rounded else spec.embed_multiplier)
        if spec.embed_norm is not None:
            x = part(self, self._embed_norm)(x)
        return F.dropout(x, spec.embed_dropout) if spec.embed_dropout and self.training else x

    def _through_layers(self, x: Tensor, view: View) -> tuple[Tensor, list[Tensor] | None]:
        checkpointed = self.gradient_checkpointing and self.training
        if checkpointed and view.cache is not None:
            # A layer that runs again in the backward pass would write its keys a second time.
            view = replace(view, cache=None)
        all_hidden: list[Tensor] | None = [] if view.collect else None
        stored: dict[int, Tensor] = {}
        for number, layer in enumerate(part(self, self._layers).children()):
            if all_hidden is not None:
                all_hidden.append(x)
            if self.spec.skips:
                x = self._skipped(number, x, stored)
            x = self._gradient_checkpointing_func(layer.__call__, x, view) if checkpointed else layer(x, view)
        return x, all_hidden

    def _skipped(self, number: int, x: Tensor, stored: dict[int, Tensor]) -> Tensor:
        """Keep or blend the stream before a layer; all that is kept is kept before anything is blended."""
        for place, skip in enumerate(self.spec.skips):
            if number in skip.keep:
                stored[place] = x
        for place, skip in enumerate(self.spec.skips):
            if number in skip.blend:
                share = skip.train if self.training else skip.evaluate
                x = stored[place] * share + x * (1 - share)
        return x


def _inside(base: str, path: str) -> str:
    return path.removeprefix(f"{base}.")


def build_decoder(root: nn.Module, spec: DecoderSpec) -> None:
    """Put the decoder at `names.base` and the head at `names.head` of a model, and tie them if the spec says so.

    Args:
        root: the model; gets plain containers where a path has more than one name. The head may lie inside the decoder.
        spec: what to build; built on the current default device.
    """
    attach(root, spec.names.base, Decoder(spec))
    head = Head(spec.head, hidden=spec.hidden, vocab=spec.vocab)
    if spec.head.tied:
        head.weight = part(root, spec.names.embed).weight  # type: ignore[assignment]  # an embedding's
    attach(root, spec.names.head, head)
