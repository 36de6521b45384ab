"""An estimate of the memory that a job takes on one device, item by item, from counts alone."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the estimate is made of; numbers of one device's largest micro-batch.

    Attributes:
        frozen: parameters without a gradient, before splitting; `trained` those with one.
        frozen_bytes: bytes a frozen parameter; `trained_bytes` a trained one (its gradient has the same type).
        optimizer_bytes: optimizer state of the whole model.
        tokens: padded tokens of the micro-batch; `supervised` is how many of its positions are trained.
        vocabulary: width of the output layer.
        width: numbers kept for the backward pass by each token (`auto.parts.activation_width`).
        hidden: width between the layers; `layers` is their number; `layer_parameters` the size of one.
        product_bytes: bytes of an activation: those of autocast, else those of the weights.
        recompute: activation checkpointing.
        strategy: single, ddp or fsdp2; `world_size` the number of processes.
        lora: the trained parameters are adapters.
    """

    frozen: int
    frozen_bytes: int
    trained: int
    trained_bytes: int
    optimizer_bytes: int
    tokens: int
    supervised: int
    vocabulary: int
    width: int
    hidden: int
    layers: int
    layer_parameters: int
    product_bytes: int
    recompute: bool
    strategy: str
    world_size: int
    lora: bool


def estimate(load: Load) -> dict[str, int]:
    """Return the bytes of each item on one device.

    * weights, gradients, optimizer: parameters times their bytes, divided by the processes under fsdp2; adapters stand apart.
    * activations: tokens x width x bytes. With checkpointing: one number a token, layer and hidden unit, and one whole layer.
    * logits: trained positions x vocabulary: the logits themselves, and in float32 their copy, log-probabilities and gradient.
    * exchange: ddp keeps a second copy of the gradients in its buckets; fsdp2 holds two whole layers while it computes.
    """
    split = load.world_size if load.strategy == "fsdp2" else 1
    trained = load.trained * load.trained_bytes
    frozen = load.frozen * load.frozen_bytes
    items = {
        "weights": (frozen if load.lora else frozen + trained) // split,
        "adapters": trained // split if load.lora else 0,
        "gradients": trained // split,
        "optimizer": load.optimizer_bytes // split,
        "activations": activations(load),
        "logits": load.supervised * load.vocabulary * (load.product_bytes + (3 if load.product_bytes < FLOAT_BYTES else 2) * FLOAT_BYTES),
    }
    if load.strategy == "ddp":
        items["exchange"] = trained
    if load.strategy == "fsdp2":
        items["exchange"] = 2 * load.layer_parameters * max(load.frozen_bytes if load.frozen else 0, load.trained_bytes if not load.lora else 0)
    return {name: size for name, size in items.items() if size}


def activations(load: Load) -> int:
    """Return the bytes that the forward pass keeps for the backward pass, without the logits."""
    whole = load.tokens * load.width * load.product_bytes
    if not load.recompute or not load.layers:
        return whole
    return load.tokens * load.layers * load.hidden * load.product_bytes + whole // load.layers
