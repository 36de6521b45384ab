"""The sections of a recipe: every key, its type, range, default and effect.

This file holds the values only; `recipe.schema` puts them together as `Recipe`.
Every field has a description: its effect in one sentence; `recipe.places` adds place, unit and usual range.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from automodel.recipe.places import add_places

Dtype = Literal["auto", "float32", "bfloat16", "float16", "float64"]
DTYPE_SPELLINGS = {"bf16": "bfloat16", "fp32": "float32", "fp16": "float16", "half": "float16", "fp64": "float64", "float": "float32"}
NONE_SPELLINGS = ("none", "null", "~", "")


def _none(value: object) -> object:
    return None if isinstance(value, str) and value.lower() in NONE_SPELLINGS else value


def _dtype(value: object) -> object:
    if not isinstance(value, str):
        return value
    name = value.removeprefix("torch.").lower()
    return DTYPE_SPELLINGS.get(name, name)


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


DtypeField = Annotated[Dtype, BeforeValidator(_dtype)]
NoneInt = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_none)]
NoneStr = Annotated[str | None, BeforeValidator(_none)]
NameList = Annotated[list[str], BeforeValidator(_names)]


class Section(BaseModel):
    """A block of a recipe: unknown keys are refused, values are frozen once read."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        json_schema_extra=add_places,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _absent(cls, value: Any, info: ValidationInfo) -> Any:
        """Read none, null and absent as the same, and refuse true and false where a number belongs."""
        field = cls.model_fields[str(info.field_name)]
        if value is None or (isinstance(value, str) and value.strip().lower() in NONE_SPELLINGS):
            keeps_null = isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("null") == "off"
            return None if keeps_null else field.get_default(call_default_factory=True)
        if isinstance(value, bool) and "bool" not in str(field.annotation) and "Any" not in str(field.annotation):
            raise PydanticCustomError("not_a_switch", "true and false do not belong here")
        return value


class TargetSection(Section):
    """A section that may name its own callable, which runs only when it is allow-listed."""

    target: NoneStr = Field(None, alias="_target_", description="Dotted path of an own callable; needs --allow-target.")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for an own `_target_`.")


def beside_target(kind: type[TargetSection]) -> set[str]:
    """Return the keys that keep their meaning beside a `_target_`; all others are arguments of the callable."""
    if kind is OptimizerSection:
        return {"lr", "weight_decay", "param_group_overrides"}
    if kind is DatasetSection:
        return set(DatasetSection.model_fields) - {"target", "kwargs", "name"}
    return set()


class RngSection(Section):
    """Random numbers (kept for files that hold an `rng` block; `seed` at the top level is the same setting)."""

    seed: int | None = Field(None, description="Seed of every random choice of the run.")
    ranked: bool = Field(True, description="Give each rank its own stream for dropout.")
    deterministic: bool = Field(False, description="Use deterministic algorithms only, and fail where there is none.")


class DistEnvSection(Section):
    """How processes find and wait for each other."""

    backend: Literal["auto", "gloo", "nccl"] = Field("auto", description="Collective library; auto takes nccl on GPUs, gloo on CPUs.")
    timeout_minutes: float = Field(
        10, gt=0, description="How long a rank waits for the others before the job fails.", json_schema_extra={"unit": "min"}
    )
    init_method: NoneStr = Field(None, description="Rendezvous address, where torchrun does not give one.")


class ModelSection(TargetSection):
    """Which model, and how it is built."""

    pretrained_model_name_or_path: NoneStr = Field(None, description="Hub id or local folder to start from.")
    config: str | dict[str, Any] | None = Field(
        None, description="Start from random weights of this config: hub id, folder, or a map with model_type."
    )
    config_overrides: dict[str, Any] = Field(default_factory=dict, description="Fields of the config to change before the model is built.")
    revision: NoneStr = Field(None, description="Branch, tag or commit of the hub repository.")
    cache_dir: NoneStr = Field(None, description="Folder of the download cache.")
    trust_remote_code: bool = Field(False, description="Allow code from the model repository to run.")
    torch_dtype: DtypeField = Field("auto", description="Number type of the weights; auto picks what this hardware is fast with, and says so.")
    attn_implementation: NoneStr = Field(None, description="Attention kernel; absent picks the best that works.")
    use_liger_kernel: bool = Field(True, description="Use Liger kernels where they apply.")
    use_sdpa_patching: bool = Field(True, description="Choose the SDPA backend order.")
    sdpa_method: NameList | None = Field(None, description="SDPA backends in order of preference.")
    force_hf: bool = Field(False, description="Take the transformers class even when a native one exists.")
    allow_unverified: bool = Field(False, description="Take a native class that has never been compared with its reference.")
    backend: dict[str, Any] | None = Field(None, description="Kernel choices (BackendConfig).")
    num_labels: int | None = Field(None, ge=1, description="Number of classes of a sequence classifier.")

    @model_validator(mode="before")
    @classmethod
    def _dtype_alias(cls, data: Any) -> Any:
        if isinstance(data, dict) and "dtype" in data and "torch_dtype" not in data:
            data = {**data, "torch_dtype": data["dtype"]}
            data.pop("dtype")
        return data


class AutocastSection(Section):
    """Mixed precision: weights keep their type, matrix products run in this one."""

    enabled: bool | None = Field(None, description="Use autocast; absent picks what the hardware is fast with, and says so.")
    dtype: DtypeField = Field("bfloat16", description="Number type of the matrix products.")


class TokenizerSection(Section):
    """Which tokenizer; absent takes the model's own."""

    pretrained_model_name_or_path: NoneStr = Field(None, description="Hub id or folder of the tokenizer.")
    revision: NoneStr = Field(None, description="Branch, tag or commit.")
    trust_remote_code: bool = Field(False, description="Allow tokenizer code from the repository to run.")
    force_hf: bool = Field(False, description="Take the raw transformers tokenizer.")
    force_default: bool = Field(False, description="Skip registered special tokenizers.")
    add_bos_token: bool | None = Field(None, description="Begin each text with the BOS token.")
    add_eos_token: bool | None = Field(None, description="End each text with the EOS token.")
    padding_side: Literal["left", "right"] | None = Field(None, description="Side on which short rows are filled.")
    chat_template: NoneStr = Field(None, description="Chat template text, or a file that holds it.")


class ProcessorSection(TargetSection):
    """What turns images and text into inputs; absent takes the model's own."""

    pretrained_model_name_or_path: NoneStr = Field(None, description="Hub id or folder of the processor.")
    revision: NoneStr = Field(None, description="Branch, tag or commit.")
    trust_remote_code: bool = Field(False, description="Allow processor code from the repository to run.")
    min_pixels: NoneInt = Field(
        None, description="Smallest image, where the model takes any size; smaller ones are enlarged.", json_schema_extra={"unit": "pixels"}
    )
    max_pixels: NoneInt = Field(
        None, description="Largest image, where the model takes any size; larger ones are shrunk.", json_schema_extra={"unit": "pixels"}
    )
    padding_side: Literal["left", "right"] | None = Field(None, description="Kept from older files: training fills rows on the right.")


class PeftSection(Section):
    """LoRA: train small matrices beside frozen weights."""

    dim: int = Field(8, ge=1, description="Rank of the update; higher learns more and costs more.", json_schema_extra={"typical": "4 to 64"})
    alpha: float = Field(32, gt=0, description="Strength of the update; the scale is alpha / dim.", json_schema_extra={"typical": "1 to 4 times dim"})
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of adapter inputs dropped while training.")
    target_modules: NameList | None = Field(None, description="Names or globs of the linear layers that get an adapter.")
    exclude_modules: NameList | None = Field(None, description="Names or globs of layers that get none.")
    match_all_linear: bool = Field(False, description="Give every linear layer except the head an adapter.")
    use_dora: bool = Field(False, description="DoRA: learn direction and size of each row apart.")
    use_rslora: bool = Field(False, description="rsLoRA: scale by alpha / sqrt(dim).")
    modules_to_save: NameList | None = Field(None, description="Modules that are trained whole and saved with the adapter.")
    init_lora_weights: bool | str = Field(True, description="How adapters start (peft's own names).")
    use_triton: bool | None = Field(None, description="Ignored: kernels are chosen by the model.")
    use_memory_efficient_lora: bool | None = Field(None, description="Ignored: kernels are chosen by the model.")
    moe_rank_scaling: bool = Field(False, description="Divide the rank of expert adapters by the number of active experts.")
    lora_dtype: DtypeField | None = Field(None, description="Number type of the adapters; absent is float32.")


class OpenSection(Section):
    """A section that is read and kept whole; its feature checks the keys."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True, protected_namespaces=())

    enabled: bool | None = Field(None, description="Switch of the feature; absent with other keys present means on.")


class CompileSection(Section):
    """torch.compile."""

    enabled: bool = Field(False, description="Compile the model before training.")
    mode: NoneStr = Field(None, description="Mode of torch.compile.")
    fullgraph: bool = Field(False, description="Fail instead of breaking the graph.")
    dynamic: bool | None = Field(None, description="Compile once for all lengths.")
    backend: NoneStr = Field(None, description="Compiler backend; absent is inductor.")


class DistributedSection(Section):
    """How the work is split over processes."""

    strategy: Literal["fsdp2", "ddp", "megatron_fsdp"] | None = Field(
        None, description="How weights are held: fsdp2 splits them, ddp copies them; absent: ddp on CPU, fsdp2 on GPU."
    )
    dp_size: NoneInt = Field(None, description="Data-parallel processes; absent is worked out.")
    dp_replicate_size: NoneInt = Field(None, description="Copies of the split model (HSDP).")
    tp_size: NoneInt = Field(1, description="Tensor-parallel processes.")
    cp_size: NoneInt = Field(1, description="Context-parallel processes.")
    pp_size: NoneInt = Field(1, description="Pipeline stages.")
    ep_size: NoneInt = Field(1, description="Expert-parallel processes.")
    sequence_parallel: bool = Field(False, description="Split norms and dropouts along the sequence inside tensor parallelism.")
    activation_checkpointing: bool | Literal["full", "selective"] = Field(
        False, description="Recompute activations in the backward pass to save memory."
    )
    find_unused_parameters: bool = Field(False, description="DDP: look for parameters without gradient.")
    pipeline: dict[str, Any] | None = Field(None, description="Pipeline schedule.")
    moe: dict[str, Any] | None = Field(None, description="Settings of expert layers.")
    options: dict[str, Any] = Field(default_factory=dict, description="Further settings of the strategy, kept from older files.")


class LossSection(TargetSection):
    """The training loss."""

    name: Literal["masked_ce", "chunked_ce", "fused_linear_ce", "te_parallel_ce"] = Field(
        "masked_ce", description="Kind of loss; all give the same value."
    )
    fp32_upcast: bool = Field(True, description="Compute the loss in float32.")
    ignore_index: int = Field(-100, description="Label that is not trained on.")
    chunk_len: int | None = Field(None, ge=1, description="Rows of logits computed at a time.")
    logit_softcapping: float | None = Field(None, description="Kept from older files; the model's own soft cap is always used.")
    reduction: Literal["sum", "mean"] = Field("sum", description="Kept from older files; the loss is always the mean over supervised tokens.")


class DatasetSection(TargetSection):
    """Rows to train or validate on."""

    name: Literal["squad", "column_mapped", "text", "mock", "chat", "hellaswag", "seq_cls"] = Field(
        "squad", description="Kind of data: decides how a row becomes a prompt and an answer."
    )
    path_or_dataset: str | list[str] | None = Field(None, description="Hub id, local file (JSON, JSONL, parquet) or folder.")
    subset: NoneStr = Field(None, description="Configuration name of a hub dataset.")
    revision: NoneStr = Field(None, description="Branch, tag or commit of the hub dataset.")
    split: str = Field("train", description="Split, also as train[:1000] or train[90%:].")
    seq_length: int | None = Field(
        None,
        ge=1,
        description="Longest row; longer ones are cut from the left of the prompt, conversations by their oldest turns; with images left out.",
        json_schema_extra={"unit": "tokens", "typical": "512 to 4096"},
    )
    limit_dataset_samples: NoneInt = Field(None, description="Use only the first rows.", json_schema_extra={"unit": "rows"})
    column_mapping: dict[str, str] | None = Field(None, description="Which column holds context, question, answer and image.")
    prompt_template: NoneStr = Field(None, description="Text of the prompt with {context} and {question}; used without a chat template.")
    system_prompt: NoneStr = Field(None, description="System message of each conversation.")
    answer_only_loss_mask: bool = Field(True, description="Train on the answer only, not on the prompt.")
    use_hf_chat_template: bool | None = Field(None, description="Use the tokenizer's chat template; absent: if it has one.")
    chat_template: NoneStr = Field(None, description="Chat template text or file, in place of the tokenizer's.")
    padding: bool | str = Field(False, description="'max_length' fills every row to seq_length; else rows are filled to the longest of their batch.")
    truncation: bool | str = Field(True, description="Cut rows longer than seq_length; false drops them.")
    shuffle_seed: int | None = Field(None, description="Shuffle the rows once before they are limited or split.")
    num_samples: NoneInt = Field(None, description="Mock data: number of rows.")
    vocab_size: NoneInt = Field(None, description="Mock data: number of different tokens.")
    seed: int = Field(0, description="Mock data: seed.")
    text_column: str = Field("text", description="Plain text: the column to read.")
    mask_history: bool = Field(False, description="Conversations: train on the last answer only; absent: on all.")
    mask_reasoning_content: bool = Field(False, description="Conversations: do not train on what the assistant thinks (reasoning_content).")
    skip_invalid_samples: bool = Field(
        False, description="Conversations: leave out and count rows that cannot be read, where else the first ends it."
    )


class PackedSequenceSection(Section):
    """Several rows in one, so that no computation goes to padding."""

    packed_sequence_size: int = Field(0, ge=0, description="Length of a packed row; 0 is off.", json_schema_extra={"unit": "tokens"})
    packing_strategy: Literal["thd", "neat"] = Field("neat", description="How rows are put together.")
    max_packs: NoneInt = Field(None, description="Most packed rows made.")
    split_across_pack: bool | None = Field(None, description="Ignored: rows are never split.")
    options: dict[str, Any] = Field(default_factory=dict, description="Further settings, kept from older files.")


class DataloaderSection(Section):
    """How rows become batches."""

    shuffle: bool | None = Field(None, description="Shuffle each epoch; absent: yes for training, no for validation.")
    group_by_length: bool = Field(False, description="Put rows of like length into one batch.")
    batch_size: NoneInt = Field(None, description="Validation: rows a batch; absent is the local batch size.")
    num_workers: int = Field(0, ge=0, description="Processes that prepare batches.")
    pin_memory: bool | None = Field(None, description="Page-locked memory; absent: on GPU.")
    persistent_workers: bool = Field(False, description="Keep workers between epochs.")
    prefetch_factor: NoneInt = Field(None, description="Batches each worker prepares ahead.")
    drop_last: bool = Field(False, description="Leave out the last, smaller global batch.")
    pad_seq_len_divisible: NoneInt = Field(None, description="Fill batches to a multiple of this length.", json_schema_extra={"unit": "tokens"})


class StepSchedulerSection(Section):
    """Batch sizes, length of the run, and how often things happen."""

    global_batch_size: int = Field(32, ge=1, description="Rows behind one optimizer step, over all processes.", json_schema_extra={"unit": "rows"})
    local_batch_size: int = Field(4, ge=1, description="Rows a process computes at once.", json_schema_extra={"unit": "rows"})
    num_epochs: NoneInt = Field(None, description="Passes over the data; absent: one, or as many as max_steps takes.")
    max_steps: NoneInt = Field(None, description="Most optimizer steps; absent: all epochs.")
    ckpt_every_steps: NoneInt = Field(None, description="Save every so many steps; absent: at the end of each epoch and at the end.")
    save_checkpoint_every_epoch: bool = Field(True, description="Save at the end of each epoch.")
    val_every_steps: NoneInt = Field(None, description="Validate every so many steps; absent: at the end of each epoch.")
    log_remote_every_steps: int = Field(1, ge=1, description="Send metrics to trackers every so many steps.")
    gc_every_steps: NoneInt = Field(None, description="Collect garbage every so many steps.")


class OptimizerSection(TargetSection):
    """The optimizer."""

    name: Literal["adamw", "adam", "sgd", "adafactor", "adagrad", "rmsprop"] = Field("adamw", description="Which torch optimizer.")
    lr: float = Field(1e-5, gt=0, description="Highest learning rate.", json_schema_extra={"typical": "1e-5 to 5e-5 full, 1e-4 to 5e-4 LoRA"})
    weight_decay: float = Field(0.0, ge=0, description="Pull of the weights towards zero.", json_schema_extra={"typical": "0 to 0.1"})
    betas: tuple[float, float] = Field((0.9, 0.999), description="Memory of the gradient's mean and square.")
    eps: float = Field(1e-8, gt=0, description="Smallest divisor.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum of SGD and RMSprop.")
    foreach: bool | None = Field(None, description="Update many tensors at once.")
    fused: bool | None = Field(None, description="Use the fused kernel; absent: where there is one.")
    param_group_overrides: list[dict[str, Any]] = Field(default_factory=list, description="Groups by pattern with lr_mult and wd_mult.")


class LrSchedulerSection(Section):
    """How the learning rate changes over the steps."""

    lr_decay_style: Literal["constant", "linear", "cosine", "inverse-square-root", "WSD"] = Field("cosine", description="Shape of the decay.")
    lr_warmup_steps: int | None = Field(None, ge=0, description="Steps of linear rise.", json_schema_extra={"unit": "steps"})
    warmup_ratio: float | None = Field(None, ge=0, le=1, description="Share of the steps that is linear rise.")
    lr_decay_steps: NoneInt = Field(None, description="Steps until the lowest rate; absent: the whole run.", json_schema_extra={"unit": "steps"})
    min_lr: float = Field(0.0, ge=0, description="Lowest rate after the decay.")
    init_lr: float = Field(0.0, ge=0, description="Rate at the first warm-up step.")
    wsd_decay_steps: NoneInt = Field(
        None, description="WSD: length of the final decay; absent: a tenth of the run.", json_schema_extra={"unit": "steps"}
    )
    wsd_decay_style: Literal["linear", "cosine"] = Field("linear", description="WSD: shape of the final decay.")


class ClipSection(Section):
    """Gradient clipping."""

    max_norm: float | None = Field(
        1.0, gt=0, description="Longest gradient; longer ones are scaled down. null turns it off.", json_schema_extra={"null": "off"}
    )


class CheckpointSection(Section):
    """What is saved, where from a run goes on."""

    enabled: bool = Field(True, description="Save checkpoints.")
    checkpoint_dir: NoneStr = Field(None, description="Kept from older files: an own folder in place of the run folder's `checkpoints`.")
    model_save_format: Literal["safetensors"] = Field("safetensors", description="Format of the weights.")
    save_consolidated: bool | Literal["final", "every"] = Field(True, description="Kept from older files: every checkpoint holds whole HF weights.")
    restore_from: NoneStr = Field(None, description="Checkpoint folder or LATEST to start from.")
    max_recent_checkpoints: NoneInt = Field(None, description="Keep only the newest ones, and the best.")
    best_metric_key: str = Field("validation", description="Validation set whose loss decides which checkpoint is best.")
    is_async: bool = Field(False, description="Save in the background.")
    v4_compatible: bool = Field(True, description="Kept from older files: files always load in transformers 4 and 5.")
    options: dict[str, Any] = Field(default_factory=dict, description="Further settings, kept from older files.")


class NeftuneSection(Section):
    """NEFTune: noise on the embeddings while training."""

    noise_alpha: float = Field(5.0, gt=0, description="Strength of the noise.")


class SlurmSection(OpenSection):
    """Submission to Slurm."""


class RunSection(Section):
    """The run folder."""

    name: NoneStr = Field(None, description="Short name of the run, part of its folder's name.")
    folder: NoneStr = Field(None, description="Root of the run folders; absent: $AUTOMODEL_RUNS, else ./runs.")
    stop_grace_seconds: float = Field(60, gt=0, description="Time a stopping job has to save before it is ended.", json_schema_extra={"unit": "s"})


class EarlyStoppingSection(Section):
    """Stop when validation no longer gets better."""

    patience: int = Field(3, ge=1, description="Validations without gain before the run stops.")
    min_delta: float = Field(0.0, ge=0, description="Smallest gain that counts.")


class GuardsSection(Section):
    """Watch over the loss."""

    nonfinite: Literal["stop", "skip"] = Field(
        "stop", description="What to do at a loss or gradient that is not a number: stop, or leave the step out."
    )
    spike_factor: float | None = Field(None, gt=1, description="Warn when the loss is so many times its running mean.")
    spike_action: Literal["warn", "stop"] = Field("warn", description="What to do at a spike.")
    early_stopping: EarlyStoppingSection | None = Field(None, description="Stop when validation no longer gets better.")


class SamplesSection(Section):
    """Texts generated at each validation."""

    prompts: list[str] = Field(default_factory=list, description="Prompts to answer.")
    from_validation: int = Field(0, ge=0, description="Also answer the first so many validation rows.", json_schema_extra={"unit": "rows"})
    max_new_tokens: int = Field(32, ge=1, description="Longest answer.", json_schema_extra={"unit": "tokens"})


RECIPES = {
    "TrainFinetuneRecipeForNextTokenPrediction": "sft",
    "PretrainRecipeForNextTokenPrediction": "pretrain",
    "TrainFinetuneRecipeForSequenceClassification": "seq_cls",
    "FinetuneRecipeForVLM": "vlm",
    "KnowledgeDistillationRecipeForNextTokenPrediction": "kd",
    "KnowledgeDistillationRecipeForVLM": "kd",
    "BenchmarkingRecipeForNextTokenPrediction": "benchmark",
}

# What `automodel COMMAND DOMAIN` means: files of the first two dialects name no recipe.
COMMANDS = {
    ("finetune", "llm"): "TrainFinetuneRecipeForNextTokenPrediction",
    ("pretrain", "llm"): "PretrainRecipeForNextTokenPrediction",
    ("finetune", "seq_cls"): "TrainFinetuneRecipeForSequenceClassification",
    ("finetune", "vlm"): "FinetuneRecipeForVLM",
    ("kd", "llm"): "KnowledgeDistillationRecipeForNextTokenPrediction",
    ("kd", "vlm"): "KnowledgeDistillationRecipeForVLM",
    ("benchmark", "llm"): "BenchmarkingRecipeForNextTokenPrediction",
}


class RecipeFields(Section):
    """Everything a job needs to know."""

    recipe: str = Field("TrainFinetuneRecipeForNextTokenPrediction", description="Kind of job, by the recipe's class name.")
    seed: int = Field(42, ge=0, description="Seed of every random choice of the run.")
    rng: RngSection | None = None
    dist_env: DistEnvSection = Field(default_factory=DistEnvSection)
    model: ModelSection = Field(default_factory=ModelSection)
    autocast: AutocastSection = Field(default_factory=AutocastSection)
    tokenizer: TokenizerSection | None = None
    processor: ProcessorSection | None = None
    peft: PeftSection | None = None
    quantization: OpenSection | None = None
    fp8: OpenSection | None = None
    compile: CompileSection | None = None
    distributed: DistributedSection = Field(default_factory=DistributedSection)
    loss_fn: LossSection = Field(default_factory=LossSection)
    dataset: DatasetSection = Field(default_factory=DatasetSection)
    packed_sequence: PackedSequenceSection | None = None
    dataloader: DataloaderSection = Field(default_factory=DataloaderSection)
    validation_datasets: dict[str, DatasetSection] = Field(
        default_factory=dict, description="Validation sets by name; `validation_dataset` is the one named 'validation'."
    )
    validation_dataloader: DataloaderSection | None = None
    step_scheduler: StepSchedulerSection = Field(default_factory=StepSchedulerSection)
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection)
    lr_scheduler: LrSchedulerSection | None = None
    clip_grad_norm: ClipSection = Field(default_factory=ClipSection)
    checkpoint: CheckpointSection = Field(default_factory=CheckpointSection)
    freeze_config: dict[str, bool] | None = Field(None, description="Parts of the model that are not trained, such as freeze_embeddings: true.")
    neftune: NeftuneSection | None = None
    wandb: OpenSection | None = None
    mlflow: OpenSection | None = None
    tensorboard: OpenSection | None = None
    trackio: OpenSection | None = None
    benchmark: OpenSection | None = None
    teacher_model: ModelSection | None = None
    kd_ratio: float | None = Field(None, ge=0, le=1, description="Share of the distillation loss.")
    teacher_distributed: DistributedSection | None = None
    offload_teacher_model: bool = Field(False, description="Keep the teacher in host memory between steps.")
    separate_meshes: bool = Field(False, description="Give the teacher processes of its own.")
    kd_loss_fn: OpenSection | None = None
    slurm: SlurmSection | None = None
    skypilot: OpenSection | None = None
    run: RunSection = Field(default_factory=RunSection)
    guards: GuardsSection = Field(default_factory=GuardsSection)
    samples: SamplesSection | None = None

    @property
    def task(self) -> str:
        """Return the kind of job: sft, pretrain, seq_cls, vlm, kd or benchmark."""
        return RECIPES[self.recipe]
