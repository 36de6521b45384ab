"""Tiny random models of several families."""

from __future__ import annotations

from pathlib import Path

SMALL = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
SHAPE = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
FAMILIES = {
    "llama": {**SHAPE, "rope_theta": 777.0, "tie_word_embeddings": False},
    "qwen2": {**SHAPE, "rope_theta": 999.0, "tie_word_embeddings": True},
    "gemma2": {**SHAPE, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0, "rope_theta": 555.0},
    "mixtral": {**SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2, "rope_theta": 333.0, "tie_word_embeddings": False},
    "gpt2": {"vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "bos_token_id": 1, "eos_token_id": 2},
}


def make_model(folder: Path, kind: str) -> Path:
    """Write a random model of a family with transformers' own class; weights large enough that every setting shows in the logits."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from automodel.auto import compat

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **FAMILIES[kind], initializer_range=0.3)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    compat.save_in_common_form(model.float(), folder)
    return folder
