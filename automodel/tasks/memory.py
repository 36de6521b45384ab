"""An estimate of the memory that a job takes on one device, item by item, from counts alone."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT_BYTES = 4
# What norms, activation functions and residuals keep beside the inputs and outputs of the matrices; measured on Llama, whose norms keep
# less when they are frozen.
BESIDE, BESIDE_FROZEN = 1.14, 1.03
# DoRA also keeps what each layer gives before and after it is scaled; measured on Llama.
DORA = 1.65
# Share of the activations that the heap of a CPU job holds beyond what lives: blocks of one shape leave holes that do not fit the next.
HOLES, NO_HOLES = 0.75, 0.1
# A GPU's allocator cuts blocks of its own, and the matrix library keeps a buffer.
GPU_HOLES, GPU_BUFFER = 0.1, 64 << 20
# What the interpreter, torch and transformers hold in a process of a job: on the heap, in files that are mapped, and on a GPU.
HEAP_BYTES, MAPPED_BYTES, CONTEXT_BYTES = 300_000_000, 100_000_000, 500_000_000


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
        dora: they are DoRA's.
        gpu: the device is a GPU; else the memory of a process is meant.
        one_shape: all micro-batches have the same shape.
        chunk: positions whose log-probabilities are held at once (chunked loss); 0: all.
        runtime: bytes that a process holds before it has a model.
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
    dora: bool = False
    gpu: bool = False
    one_shape: bool = False
    chunk: int = 0
    runtime: int = 0


def estimate(load: Load) -> dict[str, int]:
    """Return the bytes of each item on one device.

    * weights, gradients, optimizer: parameters times their bytes, divided by the processes under fsdp2; adapters stand apart.
    * activations: tokens x width x bytes. With checkpointing: one number a token, layer and hidden unit, and one whole layer.
    * logits: trained positions x vocabulary: the logits themselves, and in float32 their copy, log-probabilities and gradient.
    * exchange: ddp keeps a second copy of the gradients in its buckets; fsdp2 holds two whole layers while it computes.
    * workspace: what the allocator holds and nothing lives in. Gradients of the last step are gone when activations are made, so they fill
      the holes first.
    * runtime: the libraries themselves.
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
        "logits": logits(load),
    }
    if load.strategy == "ddp":
        items["exchange"] = trained
    if load.strategy == "fsdp2":
        items["exchange"] = 2 * load.layer_parameters * max(load.frozen_bytes if load.frozen else 0, load.trained_bytes if not load.lora else 0)
    items["workspace"] = workspace(items["activations"], items["gradients"], load)
    items["runtime"] = load.runtime
    return {name: size for name, size in items.items() if size}


def logits(load: Load) -> int:
    """Return the bytes of the logits, and of what the loss makes of them, for all positions or for a chunk of them."""
    at_once = min(load.supervised, load.chunk or load.supervised)
    copies = (3 if load.product_bytes < FLOAT_BYTES else 2) * FLOAT_BYTES
    # a chunked loss still has the logits, and their gradient, of every position
    whole = load.product_bytes * (2 if load.chunk else 1)
    return load.vocabulary * (load.supervised * whole + at_once * copies)


def workspace(kept: int, gradients: int, load: Load) -> int:
    """Return the bytes that the allocator holds beyond what lives."""
    if load.gpu:
        return int(GPU_HOLES * kept) + GPU_BUFFER
    return max(0, int((NO_HOLES if load.one_shape else HOLES) * kept) - gradients)


def runtime_bytes(*, gpu: bool) -> int:
    """Return the bytes that a job's process takes before it has a model: on a GPU its context, else the libraries in memory.

    A constant: what the process that asks has mapped, a notebook with models open, says nothing about the job.
    """
    return CONTEXT_BYTES if gpu else HEAP_BYTES + MAPPED_BYTES


def activations(load: Load) -> int:
    """Return the bytes that the forward pass keeps for the backward pass, without the logits.

    With checkpointing: what goes from layer to layer, and one layer three times: as it was computed first, again, and its gradients.
    """
    beside = (BESIDE_FROZEN if load.lora else BESIDE) * (DORA if load.dora else 1)
    whole = int(load.tokens * load.width * load.product_bytes * beside)
    if not load.recompute or not load.layers:
        return whole
    return min(whole, load.tokens * load.layers * load.hidden * load.product_bytes + 3 * whole // load.layers)
