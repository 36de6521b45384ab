"""The weights that pre-training of the demo's base model starts from: random, and arranged so that copying is within reach.

Reading comprehension is copying: attend to a word, and write it. From the usual small random weights a model of this size needs tens of millions
of tokens before its attention copies anything. Two changes bring that forward (after mimetic initialisation, Trockman and Kolter 2023,
arXiv:2305.09828): token embeddings large enough that a token stays recognisable beside what the layers add, and, above the first layer, an output
projection that undoes the value projection, so that what a head attends to is passed on as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

EMBEDDING_STD = 0.25
QUERY_KEY_STD = 0.08
REST_STD = 0.04
SEED = 0


def write_start(folder: Path, *, vocabulary: int, hidden: int = 128, layers: int = 4, heads: int = 4, mlp: int = 320) -> None:
    """Write a Llama with such weights as a model folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from automodel.auto import save_hf

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        initializer_range=REST_STD,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    torch.manual_seed(SEED)
    model: Any = LlamaForCausalLM(config)
    arrange(model)
    save_hf(model, folder)


def arrange(model: Any) -> None:
    """Set embeddings and attention of a Llama in place, from the current random stream of torch."""
    import torch
    from torch.nn.init import normal_, orthogonal_

    with torch.no_grad():
        normal_(model.model.embed_tokens.weight, std=EMBEDDING_STD)
        for number, layer in enumerate(model.model.layers):
            attention = layer.self_attn
            normal_(attention.q_proj.weight, std=QUERY_KEY_STD)
            normal_(attention.k_proj.weight, std=QUERY_KEY_STD)
            # The first layer is left free: it has to find out about neighbours before anything is worth copying.
            if number > 0:
                orthogonal_(attention.v_proj.weight)
                attention.o_proj.weight.copy_(attention.v_proj.weight.T)
