"""The face of a native decoder: a `PreTrainedModel` with generation over `nn.Decoder`, and the same decoder called by itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from automodel.archs.base import Architecture
from automodel.archs.config import Config
from automodel.auto.native import files
from automodel.auto.native.naming import rename_in_place
from automodel.auto.native.view import Call, build_view, cache_layers, packed_segments
from automodel.errors import ModelError
from automodel.nn.decoder import Decoder, build_decoder
from automodel.nn.init import init_module, init_weights
from automodel.nn.view import part
from automodel.spec import DecoderSpec
from automodel.weights.derive import decoder_rules
from automodel.weights.rules import Rule

IGNORE = -100


class Backbone(Decoder):
    """The decoder without its head, called as the base model of a transformers class is called."""

    config: Any
    layers_by_window: dict[int | None, int]

    def forward(  # type: ignore[override]  # the decoder below takes a View, which is made here
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        cache_position: Tensor | None = None,
        is_causal: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Return the last hidden states [B, T, H] after the final norm, with the cache and, if asked, all hidden states."""
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("exactly one of input_ids and inputs_embeds is passed")
        if output_attentions if output_attentions is not None else getattr(self.config, "output_attentions", False):
            raise _no_attentions()
        batch, length = given.shape[:2]
        call = Call(
            batch=batch,
            length=length,
            device=given.device,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=past_key_values,
            cache_position=cache_position,
            causal=self.spec.causal if is_causal is None else is_causal,
            collect=bool(getattr(self.config, "output_hidden_states", False) if output_hidden_states is None else output_hidden_states),
            cu_seqlens=kwargs.get("cu_seq_lens_q"),
        )
        segments = packed_segments(call)
        if segments is not None:
            return self._packed(call, segments, input_ids, inputs_embeds)
        if past_key_values is None and self._caches(use_cache) and call.causal:
            call = replace(call, cache=DynamicCache(config=self.config))
        found = super().forward(input_ids, inputs_embeds=inputs_embeds, view=build_view(self.layers_by_window, call, None))
        return BaseModelOutputWithPast(last_hidden_state=found.last, past_key_values=call.cache, hidden_states=found.all)

    def _packed(self, call: Call, segments: tuple[int, ...], input_ids: Tensor | None, inputs_embeds: Tensor | None) -> BaseModelOutputWithPast:
        """Run packed rows as one long row: no token sees another document, so no mask and no cache is needed."""
        rows = (call.batch, call.length)
        positions = call.position_ids
        if positions is None:
            positions = torch.cat([torch.arange(size, device=call.device) for size in segments])
        else:
            positions = positions.expand(call.batch, -1)
        flat = replace(call, batch=1, length=rows[0] * rows[1], position_ids=positions.reshape(1, -1), attention_mask=None)
        ids = None if input_ids is None else input_ids.reshape(1, -1)
        embeds = None if inputs_embeds is None else inputs_embeds.reshape(1, -1, inputs_embeds.shape[-1])
        found = super().forward(ids, inputs_embeds=embeds, view=build_view(self.layers_by_window, flat, segments))
        every = None if found.all is None else tuple(state.reshape(*rows, -1) for state in found.all)
        return BaseModelOutputWithPast(last_hidden_state=found.last.reshape(*rows, -1), hidden_states=every)

    def _caches(self, use_cache: bool | None) -> bool:
        wanted = getattr(self.config, "use_cache", True) if use_cache is None else use_cache
        # Training keeps no cache unless asked: nobody reads it, and with checkpointing it would be filled twice.
        return bool(wanted) and not (self.training and (use_cache is None or self.gradient_checkpointing))


class NativeForCausalLM(PreTrainedModel, GenerationMixin):
    """A decoder that predicts the next token, of the architecture `entry`; the classes for users are made by `native_class`."""

    entry: ClassVar[Architecture]
    weight_prefix = ""
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _supports_sdpa = True
    _supports_attention_backend = False
    _can_compile_fullgraph = False
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012 (so transformers declares it)
    _no_split_modules = ["Block"]  # noqa: RUF012

    def __init__(self, config: Any, *_: Any, **__: Any) -> None:
        super().__init__(config)
        self.spec: DecoderSpec = self.entry.spec(Config(config))  # type: ignore[misc]  # native classes are made from specs
        for name, value in (self.entry.settled(Config(config)) if self.entry.settled is not None else {}).items():
            setattr(config, name, value)
        build_decoder(self, self.spec)
        body = part(self, self.spec.names.base)
        body.__class__ = Backbone
        body.config, body.layers_by_window = config, cache_layers(self.spec)  # type: ignore[assignment]  # attributes of a Backbone
        self.base_model_prefix = self.weight_base = self.spec.names.base
        # One place says whether the head is tied, on both releases, whose defaults for an absent field differ.
        if getattr(config, "tie_word_embeddings", None) is not self.spec.head.tied:
            config.tie_word_embeddings = self.spec.head.tied
        names = self.spec.names
        self._tied_weights_keys = {f"{names.head}.weight": f"{names.embed}.weight"} if self.spec.head.tied else {}
        self.post_init()  # type: ignore[no-untyped-call]  # transformers does not type it

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return True

    def initialize_weights(self, *_: Any, **__: Any) -> None:
        """Draw fresh weights, unless there is no memory to draw them into."""
        if not any(parameter.is_meta for parameter in self.parameters()):
            init_weights(self, spec=self.spec)

    def _init_weights(self, module: nn.Module) -> None:
        """Draw the weights of one module; transformers calls this for what it made itself, such as a resized embedding."""
        init_module(module, spec=self.spec)

    def tie_weights(self, *_: Any, **__: Any) -> None:
        """Make the head's weight that of the embedding where the architecture ties them."""
        if self.spec.head.tied:
            head = self.get_output_embeddings()
            weight = self.get_input_embeddings().weight
            if head.weight is not weight:
                head.weight = weight

    def weight_root(self) -> nn.Module:
        """Return the module that the weight rules speak of: the model itself."""
        return self

    def weight_rules(self) -> tuple[Rule, ...]:
        """Return the rules between a checkpoint of this architecture and the built weights."""
        return decoder_rules(self.spec, *(self.entry.rules(self.spec) if self.entry.rules is not None else ()))

    def get_decoder(self) -> nn.Module:
        """Return the decoder without its head."""
        return part(self, self.spec.names.base)

    def get_input_embeddings(self) -> Any:
        """Return the token embedding."""
        return part(self, self.spec.names.embed)

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding; of a plain one only the weight is taken, so that ours keeps what else it does."""
        _adopt(self, self.spec.names.embed, value, plain=nn.Embedding)
        self.spec = replace(self.spec, vocab=self.get_input_embeddings().weight.shape[0])

    def get_output_embeddings(self) -> Any:
        """Return the head."""
        return part(self, self.spec.names.head)

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the head; of a plain linear layer only weight and bias are taken, so that ours keeps its scale, cap and norm."""
        _adopt(self, self.spec.names.head, value, plain=nn.Linear)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        cache_position: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Return logits [B, T, V] of the positions to keep, the cache, and with labels [B, T] the loss.

        Args:
            input_ids: [B, T]; or `inputs_embeds` [B, T, H].
            attention_mask: [B, S], 1 for tokens and 0 for padding; or prepared masks.
            position_ids: [B or 1, T]; rows in which they start again are packed documents.
            past_key_values: cache of earlier tokens.
            labels: token ids, -100 where nothing is learned; they are shifted here.
            use_cache, output_hidden_states, cache_position, return_dict: as in transformers.
            output_attentions: refused; no attention weights are kept.
            logits_to_keep: number of last positions, or their indices; 0 keeps all.
            kwargs: `num_items_in_batch` and `shift_labels` for the loss, `cu_seq_lens_q` of packed rows, `is_causal`.
        """
        out: Any = part(self, self.spec.names.base)(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            cache_position=cache_position,
            is_causal=kwargs.get("is_causal"),
            cu_seq_lens_q=kwargs.get("cu_seq_lens_q"),
        )
        hidden = out.last_hidden_state
        if isinstance(logits_to_keep, Tensor):
            hidden = hidden[:, logits_to_keep]
        elif logits_to_keep:
            hidden = hidden[:, -logits_to_keep:]
        logits = part(self, self.spec.names.head)(hidden)
        loss = None
        if labels is not None or kwargs.get("shift_labels") is not None:
            loss = self._loss(logits, labels, kwargs.get("shift_labels"), kwargs.get("num_items_in_batch"))
        result = CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=out.past_key_values, hidden_states=out.hidden_states)
        tuples = return_dict is False or (return_dict is None and not getattr(self.config, "return_dict", True))
        return result.to_tuple() if tuples else result

    def _loss(self, logits: Tensor, labels: Tensor | None, shifted: Tensor | None, items: Any) -> Tensor:
        given = {} if shifted is None else {"shift_labels": shifted}
        loss: Tensor = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1], num_items_in_batch=items, **given)
        weight = self.spec.head.z_loss
        if not weight:
            return loss
        highest: Tensor = logits.float().max(dim=-1).values.square()
        if items is None or labels is None:
            extra = highest[..., :-1].mean()
        else:
            extra = highest[..., :-1][labels[..., 1:].to(logits.device) != IGNORE].sum() / items
        return loss + weight * extra

    def prepare_inputs_for_generation(  # type: ignore[override]  # the releases differ in what stands here
        self,
        input_ids: Tensor,
        past_key_values: Any = None,
        attention_mask: Any = None,
        inputs_embeds: Tensor | None = None,
        cache_position: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Prepare one step of generation, without the cache when frequencies that depend on the length have just changed (LongRoPE)."""
        if past_key_values is not None and self._changes_frequencies(input_ids, past_key_values, attention_mask):
            past_key_values = None
            cache_position = None if cache_position is None else torch.arange(input_ids.shape[1], device=input_ids.device)
            if "next_sequence_length" in kwargs:
                kwargs["next_sequence_length"] = None
        if cache_position is not None:
            kwargs["cache_position"] = cache_position
        prepare: Any = super().prepare_inputs_for_generation  # type: ignore[misc]  # typed for other mixins
        return prepare(input_ids, past_key_values=past_key_values, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs)

    def _changes_frequencies(self, input_ids: Tensor, cache: Any, mask: Any) -> bool:
        limits = [rope.scaling.original_max for rope in self.spec.ropes if rope.scaling is not None and rope.scaling.kind == "longrope"]
        if not any(limits) or not 0 < int(cache.get_seq_length()) < input_ids.shape[1]:
            return False
        rows = mask if isinstance(mask, Tensor) and mask.dim() == 2 else torch.ones_like(input_ids)
        now, before = int(rows.sum(-1).max()), int(rows[:, : int(cache.get_seq_length())].sum(-1).max())
        return any(limit is not None and before <= limit < now for limit in limits)

    def create_masks_for_generate(self, *_: Any, attention_mask: Any = None, **__: Any) -> Any:
        """Leave the mask as it is: forward makes what its layers need, with their own windows."""
        return attention_mask

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        """Load a model from a folder or hub id; arguments of transformers' method that concern one device.

        Raises:
            ModelError: missing, unknown or misshapen weights, or no safetensors files.
        """
        return files.from_pretrained(cls, pretrained_model_name_or_path, *args, config=config, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, state_dict: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Save as transformers does, with the names and the layout that transformers' own class or the published files have; same arguments."""
        files.save_pretrained(self, save_directory, *args, state_dict=state_dict, **kwargs)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Trainer and others load files with the names of the checkpoint into the built model.
        rename_in_place(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _adopt(root: nn.Module, path: str, value: nn.Module, *, plain: type[nn.Module]) -> None:
    current = part(root, path)
    above, _, last = path.rpartition(".")
    if type(value) is not plain or type(current) is plain:
        setattr(part(root, above), last, value)
        return
    for name in ("weight", "bias"):
        if name in current._parameters:
            current._parameters[name] = value._parameters.get(name)
    for name in ("num_embeddings", "embedding_dim", "in_features", "out_features", "padding_idx"):
        if hasattr(value, name):
            setattr(current, name, getattr(value, name))


def _no_attentions() -> ModelError:
    fix = 'leave it out, or build the model with force_hf=True, attn_implementation="eager"'
    return ModelError("a native decoder keeps no attention weights", found="output_attentions=True", expected="False", fix=fix)
