"""A failure in words: a table from what logs say to a sentence, the likely cause, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from automodel.run.files import tail_text

if TYPE_CHECKING:
    from automodel.run.reader import Run

_TAIL_LINES = 40


@dataclass(frozen=True)
class Signature:
    """One known failure: a pattern in the error or the log, and how to put it to a person."""

    key: str
    pattern: str
    sentence: str
    cause: str
    fixes: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """How a run stands, in words; `fixes` are tried in their order, `raw` is the end of the log or the traceback."""

    state: str
    sentence: str
    cause: str = ""
    fixes: tuple[str, ...] = ()
    rank: int | None = None
    key: str = ""
    raw: str = field(default="", repr=False)

    def __str__(self) -> str:
        lines = [self.sentence]
        if self.rank is not None:
            lines.append(f"first failing rank: {self.rank}")
        if self.cause:
            lines.append(f"likely cause: {self.cause}")
        lines += [f"  {number}. {text}" for number, text in enumerate(self.fixes, 1)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        fixes = "".join(f"<li>{escape(text)}</li>" for text in self.fixes)
        parts = [f"<p><b>{escape(self.sentence)}</b></p>"]
        if self.cause:
            parts.append(f"<p>Likely cause: {escape(self.cause)}</p>")
        if fixes:
            parts.append(f"<ol>{fixes}</ol>")
        if self.raw:
            parts.append(f"<details><summary>Log</summary><pre>{escape(self.raw)}</pre></details>")
        return "".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        return {
            "state": self.state,
            "sentence": self.sentence,
            "cause": self.cause,
            "fixes": list(self.fixes),
            "rank": self.rank,
            "key": self.key,
            "raw": self.raw,
        }


_SMALLER = (
    "halve step_scheduler.local_batch_size; the global batch and so the result stay the same",
    "shorten dataset.seq_length",
    "set distributed.activation_checkpointing: true",
    "train adapters only (a peft section), or split the model over more processes",
)

SIGNATURES = (
    Signature(
        "oom_gpu",
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        "The GPU ran out of memory.",
        "The batch, the rows or the model are too large for this device.",
        _SMALLER,
    ),
    Signature(
        "oom_host",
        r"exitcode\s*:\s*-9\b|signal 9|SIGKILL|MemoryError|can't allocate memory|Cannot allocate memory|DefaultCPUAllocator",
        "A process was killed or refused memory by the system.",
        "The machine's main memory ran out (the kernel ends the largest process with SIGKILL), or somebody ended the process.",
        (*_SMALLER, "close other programs, or give the container more memory"),
    ),
    Signature(
        "nonfinite",
        r"non-?finite|is not finite|\bNaN\b|loss is nan",
        "The loss or a gradient was not a number.",
        "The learning rate is too high, or float16 overflowed.",
        (
            "lower optimizer.lr, to a third at first",
            "add warm-up steps (lr_scheduler.lr_warmup_steps)",
            "use bfloat16 or float32 (model.torch_dtype)",
            "look at the batch that is named",
        ),
    ),
    Signature(
        "collective",
        r"NCCL.*(timeout|timed out)|Watchdog caught collective|ProcessGroupNCCL|Timed out waiting|Connection (closed|reset) by peer"
        r"|gloo.*(timeout|Timed out)|DistBackendError",
        "The processes lost contact with each other.",
        "One of them died or hung; what it said first is the reason, this is its echo.",
        (
            "read the first failing rank's log",
            "raise dist_env.timeout_minutes if a step or a save takes longer",
            "check the network between the machines",
        ),
    ),
    Signature(
        "port",
        r"EADDRINUSE|[Aa]ddress already in use",
        "A network port was taken.",
        "Another job uses the same rendezvous port.",
        ("start again; a free port is chosen each time", "end the other job"),
    ),
    Signature(
        "gated",
        r"GatedRepoError|gated repo|401 Client Error|403 Client Error|Access to model .* is restricted",
        "The hub refused access to the model or the data.",
        "The repository is gated or private and this account has no access, or nobody is logged in.",
        ("accept the terms on the model's page", "log in with: hf auth login", "name a local folder instead"),
    ),
    Signature(
        "rate_limit",
        r"429 Client Error|Too Many Requests|rate limit",
        "The hub asked to slow down.",
        "Too many requests from this address.",
        ("wait some minutes and resume", "log in", "download once and use the local folder"),
    ),
    Signature(
        "offline",
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|NameResolutionError|Temporary failure in name resolution|Max retries exceeded",
        "The hub could not be reached.",
        "There is no network, or it is switched off by HF_HUB_OFFLINE.",
        ("name a local folder", "download the model first, where there is a network"),
    ),
    Signature(
        "disk",
        r"No space left on device|ENOSPC|Disk quota exceeded",
        "The disk is full.",
        "Checkpoints or the download cache filled it.",
        (
            "free space",
            "keep fewer checkpoints: checkpoint.max_recent_checkpoints",
            "put the runs on another disk: --runs-root DIR",
            "then: automodel resume RUN",
        ),
    ),
    Signature(
        "model_type",
        r"model type [`'\"].*[`'\"] but Transformers does not|does not recognize this architecture|unknown model_type",
        "This transformers version does not know the architecture.",
        "The model is newer than the library, or brings its own code.",
        ("install a newer transformers", "set model.trust_remote_code: true if you trust the repository's code"),
    ),
    Signature(
        "pad_token",
        r"does not have a padding token|pad_token",
        "The tokenizer has no padding token.",
        "The base model was trained without one.",
        ("set tokenizer.pretrained_model_name_or_path to a tokenizer that has one",),
    ),
    Signature(
        "masked",
        r"all labels|no (trained|supervised) token|labels are masked",
        "No token of the data would be trained on.",
        "The answers are empty or cut off, or the columns are mapped wrongly.",
        ("raise dataset.seq_length", "check dataset.column_mapping"),
    ),
    Signature(
        "script",
        r"[Dd]ataset scripts are no longer supported|trust_remote_code.*dataset",
        "The dataset is an old loading script.",
        "The datasets library no longer runs scripts.",
        ("use a parquet conversion of the dataset", "download it and name the files"),
    ),
    Signature(
        "fork",
        r"Cannot re-initialize CUDA in forked subprocess",
        "A worker process was forked after CUDA had started.",
        "Data workers and CUDA in one process tree need the spawn method.",
        ("set dataloader.num_workers: 0",),
    ),
    Signature(
        "template",
        r"chat_template is not set|generation.*return_assistant_tokens_mask",
        "The tokenizer's chat template cannot be used as asked.",
        "It is missing, or has no marks for the answers.",
        ("set dataset.chat_template", "set dataset.use_hf_chat_template: false"),
    ),
    Signature(
        "driver",
        r"CUDA driver version is insufficient|no kernel image is available|CUDA error",
        "The GPU refused an operation.",
        "Driver, library and device do not fit, or an index was out of range.",
        ("run: automodel doctor", "run once on the CPU, where the message is exact"),
    ),
    Signature(
        "crash",
        r"exitcode\s*:\s*-11\b|Segmentation fault|SIGSEGV|exitcode\s*:\s*-6\b",
        "A process crashed in compiled code.",
        "A library does not fit this machine or another library.",
        ("run: automodel doctor", "set model.attn_implementation: eager to leave out special kernels"),
    ),
)


def match(text: str) -> Signature | None:
    """Return the first known failure that the text shows."""
    return next((one for one in SIGNATURES if re.search(one.pattern, text)), None)


def explain(run: Run) -> Explanation:
    """Say how a run stands: the first failing rank's own error counts before any log."""
    status = run.status
    if status.state != "failed":
        return Explanation(state=status.state, sentence=_standing(run))
    record = run.folder.record()
    error = run.folder.first_error() or record.get("error") or {}
    rank = error.get("rank")
    ended = _ended_text(record)
    log = tail_text(run.folder.rank_log(int(rank or 0)), _TAIL_LINES)
    outer = tail_text(run.path / "logs" / "supervisor.log", 4 * _TAIL_LINES)
    said = "\n".join(str(error.get(key, "")) for key in ("type", "what", "found"))
    raw = str(error.get("traceback") or log or outer)
    # From the most to the least specific: the rank's message, its traceback, its end, then the logs.
    known = next((one for text in (said, str(error.get("traceback", "")), ended, log, outer) if (one := match(text))), None)
    what = str(error.get("what") or status.reason or ended or "The job failed without a message.")
    if error.get("fix"):
        return Explanation(
            "failed", what, cause=str(error.get("found", "")), fixes=(str(error["fix"]),), rank=rank, key=known.key if known else "", raw=raw
        )
    if known is None:
        return Explanation(
            "failed",
            what,
            fixes=(f"read the log: automodel logs {run.id}", f"go on from the last checkpoint: automodel resume {run.id}"),
            rank=rank,
            raw=raw,
        )
    return Explanation("failed", f"{known.sentence} ({what.splitlines()[0]})", known.cause, known.fixes, rank, known.key, raw)


def _ended_text(record: dict[str, Any]) -> str:
    code = record.get("exit_code")
    return "" if code is None else f"exitcode: {code}"


def _standing(run: Run) -> str:
    status = run.status
    where = "" if status.step is None else f" at step {status.step}" + (f" of {status.total_steps}" if status.total_steps else "")
    if status.state == "finished":
        return f"The run finished{where}."
    if status.state == "stopped":
        point = run.resume_point
        after = f"it can go on from {point.path.name}" if point else "nothing was saved, so it can only start again"
        return f"The run was stopped{where}; {after}."
    return f"The run is {status.state}{where}."
