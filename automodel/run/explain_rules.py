"""The table of known failures: what logs say, in plain words, why it mostly happens, and what to change.

A rule that is more telling stands above one that is more general; the first that fits a text is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from automodel.run.remedy import Remedy, Settings, adapters, chunked_loss, recompute, shorter_rows, smaller_batch, split_weights

Fix = str | Callable[[Settings], Remedy | None]


@dataclass(frozen=True)
class Signature:
    """One known failure: a pattern in the error or the log, and how to put it to a person."""

    key: str
    pattern: str
    sentence: str
    cause: str
    fixes: tuple[Fix, ...]

    def remedies(self, settings: Settings) -> tuple[Remedy, ...]:
        """Return what to try with these settings; what is set already is left out."""
        found = [Remedy(fix) if isinstance(fix, str) else fix(settings) for fix in self.fixes]
        return tuple(remedy for remedy in found if remedy is not None)


def change(text: str, *overrides: str) -> Fix:
    """Return a change to fixed values, which is offered where not all of them are set already."""
    return lambda settings: None if all(settings.holds(one) for one in overrides) else Remedy(text, overrides)


def lower_rate(settings: Settings) -> Remedy:
    """Return a third of the learning rate."""
    now = settings.number("optimizer.lr", 1e-5)
    return Remedy(f"lower the learning rate from {now:g} to {now / 3:.2g}", (f"--optimizer.lr={now / 3:.2g}",))


def warm_up(settings: Settings) -> Remedy:
    """Return a warm-up, or twice the one there is."""
    steps = int(settings.number("lr_scheduler.lr_warmup_steps", 0))
    wanted = max(10, 2 * steps)
    return Remedy(f"let the rate rise over the first {wanted} steps", (f"--lr_scheduler.lr_warmup_steps={wanted}",))


def clip(settings: Settings) -> Remedy | None:
    """Return clipping, where it is off."""
    off = "clip_grad_norm" in settings.values and settings.get("clip_grad_norm.max_norm") is None
    return Remedy("clip gradients", ("--clip_grad_norm.max_norm=1.0",)) if off else None


def wider_numbers(settings: Settings) -> Remedy | None:
    """Return float32, unless it is asked for already."""
    overrides = ("--model.torch_dtype=float32", "--autocast.enabled=false")
    return None if all(settings.holds(one) for one in overrides) else Remedy("compute in float32", overrides)


def longer_rows(settings: Settings) -> Remedy | None:
    """Return twice the longest row, where there is a limit."""
    now = settings.get("dataset.seq_length")
    return Remedy(f"allow rows of {2 * now} instead of {now} tokens", (f"--dataset.seq_length={2 * now}",)) if isinstance(now, int) else None


def plain_prompt(settings: Settings) -> Remedy | None:
    """Return a prompt without the chat template, where the data can do without: conversations cannot."""
    override = "--dataset.use_hf_chat_template=false"
    if settings.get("dataset.name") == "chat" or settings.holds(override):
        return None
    return Remedy("use a plain prompt instead of the chat template", (override,))


def longer_wait(settings: Settings) -> Remedy:
    """Return three times the patience of the ranks."""
    now = settings.number("dist_env.timeout_minutes", 10)
    return Remedy(f"let processes wait {3 * now:g} minutes for each other", (f"--dist_env.timeout_minutes={3 * now:g}",))


def fewer_checkpoints(settings: Settings) -> Remedy:
    """Return a limit for the checkpoints that are kept."""
    now = int(settings.number("checkpoint.max_recent_checkpoints", 0))
    wanted = 1 if now == 2 else 2
    return Remedy(f"keep only the newest {wanted} and the best", (f"--checkpoint.max_recent_checkpoints={wanted}",))


_SMALLER: tuple[Fix, ...] = (smaller_batch, recompute, shorter_rows, chunked_loss, adapters, split_weights)
_LOGIN = ("accept the terms on the model's page", "log in with: hf auth login", "name a local folder instead")
_ONE_READER = change("read the data in the training process itself", "--dataloader.num_workers=0")
_SDPA = change("use the attention of torch", "--model.attn_implementation=sdpa")
_EAGER = change("use plain attention without special kernels", "--model.attn_implementation=eager", "--model.use_liger_kernel=false")
_AUTOCAST = change("compute in bfloat16 by autocast over float32 weights", "--model.torch_dtype=float32", "--autocast.enabled=true")
_OWN_CONFIG = change("take the config as it is", "--model.config_overrides={}")
_HF_CLASS = change("use transformers' own class", "--model.force_hf=true")
_TRUST = change("if you have read its code and trust it, allow it to run", "--model.trust_remote_code=true")
_FREE = "free space, or put the runs on another disk: --runs-root DIR"

SIGNATURES = (
    Signature(
        "oom_gpu",
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|HIP out of memory",
        "The GPU ran out of memory.",
        "The batch, the rows or the model are too large for this device, or another process uses it.",
        (*_SMALLER, "see who else uses the GPU: nvidia-smi"),
    ),
    Signature(
        "shm",
        r"insufficient shared memory|out of shared memory|worker.*killed by signal: Bus error",
        "The workers that read the data ran out of shared memory.",
        "The container gives /dev/shm too little room.",
        (_ONE_READER, "give the container more: docker run --shm-size=8g"),
    ),
    Signature(
        "oom_host",
        r"exitcode\s*:\s*-9\b|[Ss]ignal 9\b|SIGKILL|MemoryError|can't allocate memory|Cannot allocate memory|DefaultCPUAllocator",
        "A process was killed or refused memory by the system.",
        "The machine's main memory ran out (the kernel ends the largest process with SIGKILL), or somebody ended the process.",
        (*_SMALLER, "close other programs, or give the container more memory"),
    ),
    Signature(
        "spike",
        r"The loss jumped at step",
        "The loss jumped.",
        "The learning rate is too high for this point of the run, or a batch holds text of another kind.",
        (lower_rate, warm_up, clip, "look at the rows of that step with `automodel preview`"),
    ),
    Signature(
        "nonfinite",
        r"non-?finite|is not a finite number|is not finite|\bNaN\b|loss is nan|probability tensor contains either `inf`, `nan`",
        "The loss or a gradient was not a number.",
        "The learning rate is too high, or float16 overflowed.",
        (lower_rate, warm_up, clip, wider_numbers, change("leave such steps out", "--guards.nonfinite=skip"), "look at the batch that is named"),
    ),
    Signature(
        "duplicate_gpu",
        r"Duplicate GPU detected",
        "Two processes of the job were put on the same GPU.",
        "More processes were asked for than there are GPUs.",
        ("start with at most as many processes as GPUs: --nproc-per-node N", "look at CUDA_VISIBLE_DEVICES"),
    ),
    Signature(
        "collective",
        r"(?i:Watchdog caught collective|NCCL.*(timeout|timed out)|Timed out waiting \d+ms|wait timeout after \d+ms|socket has timed out after \d+)",
        "A process waited too long for the others.",
        "One process was much slower than the rest (a large file, a first compilation, a long validation), hung, or never started.",
        (longer_wait, "read the logs of the other processes: automodel logs RUN --rank 1", "go on from the last checkpoint: automodel resume RUN"),
    ),
    Signature(
        "peer",
        r"Connection (closed|reset) by peer|ProcessGroupNCCL|NCCL error|Broken pipe",
        "The connection between processes broke.",
        "Another process ended first, mostly for a reason of its own.",
        ("read the logs of the other processes: automodel logs RUN --rank 1", "go on from the last checkpoint: automodel resume RUN"),
    ),
    Signature(
        "port",
        r"EADDRINUSE|[Aa]ddress already in use",
        "A network port was taken.",
        "Another job uses the same rendezvous port.",
        ("start again; a free port is chosen each time", "end the other job: automodel runs, automodel stop RUN"),
    ),
    Signature(
        "token",
        r"Invalid user token|Invalid credentials in Authorization header|Invalid username or password",
        "The Hub does not accept the token.",
        "It was revoked, has expired, or was copied without its end.",
        ("log in again: hf auth login", "look at the variable HF_TOKEN, which goes before the login"),
    ),
    Signature(
        "gated",
        r"GatedRepoError|gated repo|Access to model .* is restricted|is restricted and you are not in the authorized list|403 Client Error",
        "The Hub refused access to the model or the data.",
        "The repository is gated or private and this account has no access, or nobody is logged in.",
        _LOGIN,
    ),
    Signature(
        "revision",
        r"RevisionNotFoundError|is not a valid git identifier|Invalid rev id",
        "The branch, tag or commit is not in that repository.",
        "The revision is misspelt, or was deleted.",
        ("set model.revision (or dataset.revision) to a name that the repository lists", change("take the default branch", "--model.revision=null")),
    ),
    Signature(
        "missing_repo",
        r"RepositoryNotFoundError|Repository Not Found|is not a valid model identifier|404 Client Error|401 Client Error"
        r"|Dataset .* doesn't exist on the Hub|DatasetNotFoundError",
        "There is no such model or data set on the Hub, or this account cannot see it.",
        "The name is misspelt, or the repository is private and nobody is logged in.",
        ("check the name: owner/name as on its page", "log in with: hf auth login", "name a local folder instead"),
    ),
    Signature(
        "rate_limit",
        r"429 Client Error|429 Too Many|Too Many Requests|rate limit",
        "The Hub asked to slow down.",
        "Too many requests from this address, as in a class room.",
        ("wait some minutes and resume", "log in: hf auth login", "download once and use the local folder"),
    ),
    Signature(
        "offline",
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|offline mode is enabled|couldn't connect to '|NameResolutionError|Name or service not known"
        r"|Temporary failure in name resolution|Max retries exceeded|Network is unreachable|Connection refused",
        "The Hub could not be reached.",
        "There is no network, or it is switched off by HF_HUB_OFFLINE.",
        ("name a local folder", "download the model first, where there is a network: hf download NAME", "unset HF_HUB_OFFLINE"),
    ),
    Signature(
        "disk",
        r"No space left on device|ENOSPC|Disk quota exceeded|too little room for a checkpoint",
        "The disk is full.",
        "Checkpoints or the download cache filled it.",
        (_FREE, fewer_checkpoints, change("save nothing", "--checkpoint.enabled=false"), "then go on: automodel resume RUN"),
    ),
    Signature(
        "open_files",
        r"Too many open files|\[Errno 24\]",
        "The process may not open more files.",
        "The limit of this account is low, or many workers read data.",
        (_ONE_READER, "raise the limit before starting: ulimit -n 65536"),
    ),
    Signature(
        "remote_code",
        r"contains custom code which must be executed|needs code from its own repository",
        "The model brings its own code, which is not run unasked.",
        "Neither this library nor this transformers release knows the architecture by itself.",
        (_TRUST, "look for the same model in a form without own code"),
    ),
    Signature(
        "model_type",
        r"model type [`'\"].*[`'\"] but Transformers does not|does not recognize this architecture|unknown model_type|knows no model_type",
        "This transformers version does not know the architecture.",
        "The model is newer than the library, or brings its own code.",
        ("install a newer transformers: pip install -U transformers", "see what is missing: automodel inspect MODEL", _TRUST),
    ),
    Signature(
        "pad_token",
        r"does not have a padding token|no padding token",
        "The tokenizer has no padding token.",
        "The base model was trained without one.",
        ("set tokenizer.pretrained_model_name_or_path to a tokenizer that has one",),
    ),
    Signature(
        "masked",
        r"all labels masked|hold no token to train on|no (trained|supervised) token|labels are masked|labels were masked",
        "No token of the data would be trained on.",
        "The answers are empty or cut off, or the columns are mapped wrongly.",
        (longer_rows, "look at the rows: automodel preview RECIPE", "check dataset.column_mapping", plain_prompt),
    ),
    Signature(
        "script",
        r"[Dd]ataset scripts are no longer supported|trust_remote_code.*dataset",
        "The data set is an old loading script.",
        "The datasets library no longer runs scripts.",
        ("use a parquet conversion of the data set: its branch refs/convert/parquet", "download it and name the files in dataset.path_or_dataset"),
    ),
    Signature(
        "data_file",
        r"DatasetGenerationError|An error occurred while generating the dataset|JSONDecodeError|JSON parse error"
        r"|data file does not exist|data file cannot be read|Unable to find '",
        "A data file cannot be read.",
        "The path is wrong, or a line of the file is not what its suffix says.",
        ("check dataset.path_or_dataset; relative paths count from where the job was started", "look at the file: one JSON object a line for .jsonl"),
    ),
    Signature(
        "fork",
        r"Cannot re-initialize CUDA in forked subprocess",
        "A worker process was forked after CUDA had started.",
        "Data workers and CUDA in one process tree need the spawn method.",
        (_ONE_READER,),
    ),
    Signature(
        "worker",
        r"DataLoader worker .*(exited unexpectedly|killed by signal)",
        "A process that reads the data ended.",
        "It ran out of memory, or crashed in compiled code.",
        (_ONE_READER, "give the container more memory"),
    ),
    Signature(
        "template",
        r"chat_template is not set|has no chat template|return_assistant_tokens_mask|chat template (writes|changes|refuses|cannot)"
        r"|TemplateError|UndefinedError",
        "The tokenizer's chat template cannot be used as asked.",
        "It is missing, has no marks for the answers, or refuses these messages.",
        (plain_prompt, "set dataset.chat_template to a template file", "take the instruct version of the model"),
    ),
    Signature(
        "lora_targets",
        r"Target modules .* not found in the base model|No layer of the model matches the LoRA targets",
        "The LoRA targets match no layer of this model.",
        "Layers are called otherwise in this family.",
        (
            change("give every linear layer an adapter", "--peft.target_modules=null", "--peft.match_all_linear=true"),
            "see the names: automodel inspect MODEL",
        ),
    ),
    Signature(
        "vocabulary",
        r"index out of range in self|srcIndex < srcSelectDimSize|Target \d+ is out of bounds|token ids that have no embedding",
        "A token id is larger than the model's vocabulary.",
        "The tokenizer belongs to another model, or tokens were added without new embeddings.",
        (change("take the model's own tokenizer", "--tokenizer=null"), "compare: automodel inspect MODEL"),
    ),
    Signature(
        "no_gradient",
        r"does not require grad and does not have a grad_fn|optimizer got an empty parameter list|[Nn]othing (is|would be) trained",
        "Nothing in the model can be trained.",
        "Everything is frozen, or checkpointing cut the gradients off.",
        (
            change("freeze nothing", "--freeze_config=null"),
            change("keep activations", "--distributed.activation_checkpointing=false"),
            adapters,
        ),
    ),
    Signature(
        "unused",
        r"Expected to have finished reduction in the prior iteration",
        "Some parameters took no part in the loss.",
        "A part of the model was skipped, such as experts without a token or an unused tower.",
        (change("let DDP look for such parameters", "--distributed.find_unused_parameters=true"), split_weights),
    ),
    Signature(
        "flash",
        r"FlashAttention\d? has been toggled on|flash_attn.*(not|isn't) (be )?(installed|supported)|No available kernel. Aborting execution",
        "The attention kernel that was asked for cannot run here.",
        "Its package is missing, or it does not support this device, number type or head size.",
        (_SDPA, _EAGER),
    ),
    Signature(
        "package",
        r"ModuleNotFoundError|No module named|requires bitsandbytes|doesn't seem to be installed|ImportError",
        "A package is missing, or does not fit the others.",
        "It is an extra that was not installed, or two releases do not go together.",
        ("install what is named: pip install NAME", "look at what is there: automodel doctor"),
    ),
    Signature(
        "weights",
        r"MetadataIncompleteBuffer|HeaderTooLarge|InvalidHeader|Error while deserializing header|\bis truncated\b|incomplete metadata",
        "A weight file is damaged.",
        "A download or a copy was cut off.",
        ("download or copy it again; for the cache: hf cache verify NAME", "compare sizes with the model's page"),
    ),
    Signature(
        "checkpoint_shape",
        r"size mismatch for|ignore_mismatched_sizes|copying a param with shape|does not fit this job",
        "Weights have another shape than the model expects.",
        "The config was changed, or the weights belong to another model.",
        (_OWN_CONFIG, "name the folder that config and weights come from together"),
    ),
    Signature(
        "dtype",
        r"have the same dtype|not implemented for '(Half|BFloat16|Float8\w*|Char|Byte)'|expected scalar type|Unsupported dtype",
        "An operation does not know this number type, or met two different ones.",
        "The weights or the autocast type do not suit this device or this model.",
        (
            wider_numbers,
            _AUTOCAST,
            _EAGER,
        ),
    ),
    Signature(
        "shape",
        r"shapes cannot be multiplied|must match the size of tensor|[Ss]izes of tensors must match|shape '.*' is invalid for input",
        "Two tensors do not fit together.",
        "A setting of the config, a longer row than the model has positions for, or code of the model itself.",
        (
            _OWN_CONFIG,
            shorter_rows,
            _HF_CLASS,
            _EAGER,
        ),
    ),
    Signature(
        "no_gpu",
        r"Torch not compiled with CUDA enabled|No CUDA GPUs are available|Found no NVIDIA driver",
        "No GPU can be used here.",
        "This torch is for CPUs only, there is no driver, or CUDA_VISIBLE_DEVICES hides the devices.",
        (
            "look at the machine: automodel doctor",
            "install torch for CUDA: https://pytorch.org/get-started",
            "run on the CPU with --nproc-per-node 1",
        ),
    ),
    Signature(
        "driver",
        r"CUDA driver version is insufficient|driver on your system is too old|no kernel image is available|device-side assert|CUDA error",
        "The GPU refused an operation.",
        "Driver, library and device do not fit, or an index was out of range.",
        ("run: automodel doctor", "run once on the CPU, where the message is exact: CUDA_VISIBLE_DEVICES= automodel RECIPE", _EAGER),
    ),
    Signature(
        "deterministic",
        r"does not have a deterministic implementation",
        "An operation has no deterministic form.",
        "rng.deterministic asks for such operations only.",
        (change("allow other operations", "--rng.deterministic=false"),),
    ),
    Signature(
        "permission",
        r"Permission denied|PermissionError|Read-only file system",
        "A file or folder may not be written or read.",
        "It belongs to somebody else, or the disk is mounted for reading.",
        ("put the runs elsewhere: --runs-root DIR", "look at who owns the folder that is named: ls -ld FOLDER"),
    ),
    Signature(
        "crash",
        r"exitcode\s*:\s*-(11|6|4|7)\b|Segmentation fault|SIGSEGV|SIGABRT|SIGILL|SIGBUS",
        "A process crashed in compiled code.",
        "A library does not fit this machine or another library.",
        ("run: automodel doctor", _EAGER),
    ),
)


def match(text: str) -> Signature | None:
    """Return the first known failure that the text shows."""
    return next((one for one in SIGNATURES if re.search(one.pattern, text)), None)
