"""Each known failure is put in words by a real message, and each change that is offered makes a valid recipe."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automodel.errors import DataError, JobFailed
from automodel.recipe import load_recipe
from automodel.run import Remedy, Run, RunFolder, explain_text
from automodel.run.explain import excerpt
from automodel.run.explain_rules import SIGNATURES, match
from automodel.run.remedy import Settings
from tests.house.source import ROOT

# Printed by torch 2.13, transformers 5.23 and 4.57, huggingface_hub, datasets 5.2, peft and safetensors on real machines.
MESSAGES = (
    (
        "oom_gpu",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB of which 1.12 GiB is free.",
    ),
    ("oom_gpu", "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    (
        "oom_host",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
        "281474976710656 bytes. Error code 12 (Cannot allocate memory)",
    ),
    ("oom_host", "  exitcode  : -9 (pid: 14471)  (SIGKILL)\n  traceback : Signal 9 (SIGKILL) received by PID 14471"),
    ("oom_host", "The worker was ended by signal 9 (SIGKILL)."),
    ("shm", "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).\n"),
    ("worker", "RuntimeError: DataLoader worker (pid(s) 14518) exited unexpectedly"),
    ("nonfinite", "The loss is not a finite number at step 12; the weights were not changed by it."),
    ("nonfinite", "RuntimeError: probability tensor contains either `inf`, `nan` or element < 0"),
    ("spike", "The loss jumped at step 120."),
    (
        "duplicate_gpu",
        "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.hpp:317, invalid usage (run with NCCL_DEBUG=WARN for details)\n"
        "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 65000",
    ),
    (
        "collective",
        "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 4000ms for recv operation to complete",
    ),
    (
        "collective",
        "[rank1]:[E ProcessGroupNCCL.cpp:607] [Rank 1] Watchdog caught collective operation timeout: "
        "WorkNCCL(SeqNum=12, OpType=ALLREDUCE, NumelIn=1, "
        "NumelOut=1, Timeout(ms)=600000) ran for 600012 milliseconds before timing out.",
    ),
    ("collective", "torch.distributed.DistNetworkError: The client socket has timed out after 2000ms while trying to connect to (127.0.0.1, 1)."),
    ("collective", "torch.distributed.DistStoreError: wait timeout after 2000ms, keys: /x"),
    (
        "peer",
        "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:41859. This is "
        "typically caused by a remote worker crashing.",
    ),
    ("peer", "RuntimeError: [gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:24230: Connection reset by peer."),
    (
        "port",
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network "
        "address. port: 46827, useIpv6: false, code: -98, "
        "name: EADDRINUSE, message: address already in use",
    ),
    ("token", "huggingface_hub.errors.HfHubHTTPError: Invalid user token."),
    (
        "gated",
        "OSError: You are trying to access a gated repo.\nMake sure to have access to it at https://huggingface.co/team/gated.\n403 Client Error.\n\n"
        "Cannot access gated repo for url https://huggingface.co/team/gated/resolve/main/config.json.\nAccess to team/gated is restricted.",
    ),
    ("revision", "RevisionNotFoundError: 404 Client Error.\n\nRevision Not Found for url: https://huggingface.co/team/open/resolve/v9/config.json."),
    (
        "missing_repo",
        "RepositoryNotFoundError: 401 Client Error.\n\nRepository Not Found for url: https://huggingface.co/team/nothere/resolve/main/config.json.\n"
        "If you are trying to access a private or gated model, make sure you are authenticated",
    ),
    ("missing_repo", "OSError: team/nothere is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'"),
    ("rate_limit", "HfHubHTTPError: 429 Too Many Requests for url: https://huggingface.co/api/models/team/x."),
    (
        "offline",
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files.",
    ),
    ("offline", "OfflineModeIsEnabled: Cannot reach https://huggingface.co/api/models/x/y: offline mode is enabled."),
    ("disk", "OSError: [Errno 28] No space left on device"),
    ("disk", "SafetensorError: Error while serializing: I/O error: No space left on device (os error 28)"),
    ("open_files", "OSError: [Errno 24] Too many open files: '/data/rows.jsonl'"),
    ("remote_code", "ValueError: The repository org/x contains custom code which must be executed to correctly load the model."),
    ("model_type", "ValueError: The checkpoint you are trying to load has model type `llamo` but Transformers does not recognize this architecture."),
    ("pad_token", "ValueError: Asking to pad but the tokenizer does not have a padding token. Please select a token to use as `pad_token`"),
    ("script", "RuntimeError: Dataset scripts are no longer supported, but found scr.py"),
    ("data_file", "datasets.exceptions.DatasetGenerationError: An error occurred while generating the dataset"),
    ("data_file", "FileNotFoundError: Unable to find '/nope.json'"),
    ("fork", "RuntimeError: Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' start method"),
    ("lora_targets", "ValueError: Target modules {'nope'} not found in the base model. Please check the target modules and try again."),
    (
        "vocabulary",
        "Indexing.cu:1289: indexSelectLargeIndex: block: [0,0,0] Assertion `srcIndex < srcSelectDimSize` failed.\nCUDA error: device-side assert",
    ),
    (
        "unused",
        "RuntimeError: Expected to have finished reduction in the prior iteration before starting a new one. "
        "This error indicates that your module has "
        "parameters that were not used in producing loss.",
    ),
    (
        "flash",
        "ImportError: FlashAttention2 has been toggled on, but it cannot be used due to the following error: the package flash_attn is not installed",
    ),
    ("package", "ImportError: Using `bitsandbytes` 4-bit quantization requires bitsandbytes: `pip install -U bitsandbytes>=0.46.1`"),
    ("package", "ModuleNotFoundError: No module named 'einops'"),
    ("weights", "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer"),
    ("dtype", "RuntimeError: mat1 and mat2 must have the same dtype, but got Float and BFloat16"),
    ("driver", "RuntimeError: The NVIDIA driver on your system is too old (found version 11040)."),
    ("driver", "RuntimeError: CUDA error: no kernel image is available for execution on the device"),
    (
        "deterministic",
        "RuntimeError: cumsum_cuda_kernel does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'.",
    ),
    ("permission", "PermissionError: [Errno 13] Permission denied: '/runs'"),
    ("crash", "  exitcode  : -11 (pid: 14471)"),
)
LR = re.compile(r"--optimizer\.lr=\S+")


def oom() -> None:
    import torch

    torch.empty(1 << 46)


def no_cuda() -> None:
    import torch

    if torch.cuda.is_available():
        raise AssertionError("Torch not compiled with CUDA enabled")
    torch.zeros(1).cuda()


def shapes() -> None:
    import torch

    torch.zeros(2, 3) @ torch.zeros(4, 5)


def types() -> None:
    import torch

    torch.nn.functional.linear(torch.zeros(2, 3), torch.zeros(4, 3, dtype=torch.bfloat16))


def half() -> None:
    import torch

    torch.linalg.svd(torch.zeros(2, 2, dtype=torch.float16))


def vocabulary() -> None:
    import torch

    torch.nn.Embedding(4, 2)(torch.tensor([7]))


def target() -> None:
    import torch

    torch.nn.functional.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 9]))


def no_gradient() -> None:
    import torch

    torch.zeros(1).sum().backward()


def no_parameters() -> None:
    import torch

    torch.optim.AdamW([])


def full_disk() -> None:
    with open("/dev/full", "wb") as out:
        out.write(b"x" * 10_000)


def port() -> None:
    from torch.distributed import TCPStore

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        TCPStore("127.0.0.1", taken.getsockname()[1], 1, True)


def mismatch() -> None:
    import torch

    torch.nn.Linear(2, 2).load_state_dict(torch.nn.Linear(3, 3).state_dict())


def masked() -> None:
    raise DataError("The training data hold no token to train on: all 8 rows were dropped.", found="8 with all labels masked", fix="raise seq_length")


def nonfinite() -> None:
    raise JobFailed("The loss is not a finite number at step 3; the weights were not changed by it.", found="loss nan")


@pytest.mark.parametrize(
    ("key", "break_it"),
    [
        ("oom_host", oom),
        ("no_gpu", no_cuda),
        ("shape", shapes),
        ("dtype", types),
        ("dtype", half),
        ("vocabulary", vocabulary),
        ("vocabulary", target),
        ("no_gradient", no_gradient),
        ("no_gradient", no_parameters),
        ("disk", full_disk),
        ("port", port),
        ("checkpoint_shape", mismatch),
        ("masked", masked),
        ("nonfinite", nonfinite),
    ],
)
@pytest.mark.both_ends
def test_what_breaks_here_is_known(tmp_path: Path, key: str, break_it: Callable[[], None]) -> None:
    answer = failed(tmp_path, break_it).explain()
    assert answer.key == key
    assert answer.cause
    assert answer.fixes
    assert answer.raw.startswith("Traceback")


@pytest.mark.both_ends
def test_a_tokenizer_without_a_template_and_an_unknown_model_are_known(tmp_path: Path, tiny_model_dir: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    config = json.loads((tiny_model_dir / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "llamo"}))
    tokenizer: Any = AutoTokenizer.from_pretrained(str(tiny_model_dir))
    no_template = failed(tmp_path / "a", lambda: tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False))
    assert no_template.explain().key == "template"
    unknown = failed(tmp_path / "b", lambda: AutoConfig.from_pretrained(str(tmp_path)))
    assert unknown.explain().key == "model_type"


def test_conversations_are_not_told_to_do_without_a_template() -> None:
    answers = {kind: explain_text("has no chat template", {"dataset": {"name": kind}}) for kind in ("squad", "chat")}
    told = {kind: "plain prompt" in str(answer.fixes) for kind, answer in answers.items() if answer is not None}
    assert told == {"squad": True, "chat": False}


@pytest.mark.parametrize(("key", "message"), MESSAGES)
def test_real_messages_are_known(key: str, message: str) -> None:
    found = explain_text(message)
    assert found is not None
    assert found.key == key


def test_every_rule_has_a_real_message() -> None:
    live = {"no_gpu", "shape", "no_gradient", "checkpoint_shape", "masked", "template"}
    assert {key for key, _ in MESSAGES} | live == {rule.key for rule in SIGNATURES}
    assert len({rule.key for rule in SIGNATURES}) == len(SIGNATURES)


RECIPES: tuple[dict[str, Any], ...] = (
    {},
    {"dataset": {"seq_length": 512}, "peft": {"dim": 4}, "distributed": {"activation_checkpointing": True, "strategy": "fsdp2"}},
    {"step_scheduler": {"local_batch_size": 1, "global_batch_size": 8}, "lr_scheduler": {"lr_warmup_steps": 50}},
    {"step_scheduler": {"local_batch_size": 6, "global_batch_size": 12}, "clip_grad_norm": {"max_norm": None}, "optimizer": {"lr": 3e-4}},
    {"model": {"torch_dtype": "float32"}, "autocast": {"enabled": False}, "checkpoint": {"max_recent_checkpoints": 2}},
)


@pytest.mark.parametrize("settings", RECIPES)
@pytest.mark.parametrize("rule", SIGNATURES, ids=lambda rule: rule.key)
def test_each_change_makes_a_valid_recipe(rule: Any, settings: dict[str, Any]) -> None:
    from automodel.recipe import as_loaded

    before = as_loaded({"recipe": "TrainFinetuneRecipeForNextTokenPrediction", "dataset": {"name": "mock"}, **settings}).recipe
    for remedy in rule.remedies(Settings(before.model_dump())):
        if remedy.overrides:
            after = remedy.apply(before)
            assert after != before, f"{remedy} changes nothing"
            assert after.step_scheduler.global_batch_size == before.step_scheduler.global_batch_size


def test_changes_start_from_what_is_set() -> None:
    def overrides(key: str, settings: dict[str, Any]) -> list[str]:
        rule = next(one for one in SIGNATURES if one.key == key)
        return [word for remedy in rule.remedies(Settings(settings)) for word in remedy.overrides]

    small = {"step_scheduler": {"local_batch_size": 6, "global_batch_size": 12}, "dataset": {"seq_length": 512}}
    assert "--step_scheduler.local_batch_size=3" in overrides("oom_gpu", small)
    assert "--dataset.seq_length=256" in overrides("oom_gpu", small)
    assert "--dataset.seq_length=1024" in overrides("masked", small)
    least = {"step_scheduler": {"local_batch_size": 1}, "peft": {"dim": 8}}
    assert not any("local_batch_size" in word or "peft" in word for word in overrides("oom_gpu", least))
    assert overrides("nonfinite", {"optimizer": {"lr": 3e-4}})[0] == "--optimizer.lr=0.0001"


def failed(root: Path, break_it: Callable[[], object], *, recipe: str = "dataset:\n  name: mock\noptimizer:\n  lr: 0.0003\n") -> Run:
    folder = RunFolder.create(root, recipe_yaml=recipe, user_yaml=recipe, command=["automodel"], model="m", task="sft")
    try:
        break_it()
    except Exception as error:  # the point of the test: whatever it is, it is recorded and explained
        folder.rank_status(0, phase="failed", error=error)
    folder.set_state("failed", error=folder.first_error())
    return Run(folder.path)


def unknown() -> None:
    raise LookupError("the moon is in the wrong house\nand so are the stars")


def test_an_unknown_error_is_shown_as_it_is(tmp_path: Path) -> None:
    answer = failed(tmp_path, unknown).explain()
    assert (answer.key, answer.cause) == ("", "")
    assert answer.sentence == "LookupError: the moon is in the wrong house"
    lines = answer.excerpt.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "and so are the stars"
    assert "in unknown" in answer.excerpt
    assert not answer.rerun
    assert "  | Traceback (most recent call last):" in str(answer)


def test_a_long_traceback_keeps_both_ends() -> None:
    text = "noise\nTraceback (most recent call last):\n" + "".join(f"  line {number}\n" for number in range(50)) + "ValueError: x\n"
    kept = excerpt(text).splitlines()
    assert kept[0].startswith("Traceback")
    assert kept[-1] == "ValueError: x"
    assert "lines left out" in kept[8]
    assert len(kept) == 17


def test_the_error_of_the_library_speaks_first_and_the_rule_adds_changes(tmp_path: Path) -> None:
    def loss() -> None:
        raise JobFailed("The loss is not a finite number at step 3.", found="loss nan", fix="look at rows [7]")

    answer = failed(tmp_path, loss).explain()
    assert answer.sentence == "The loss is not a finite number at step 3."
    assert answer.fixes[0] == "look at rows [7]"
    assert all(remedy.overrides for remedy in answer.remedies[1:])
    assert answer.rerun == f"automodel {answer_path(tmp_path)}/recipe.yaml --optimizer.lr=0.0001"


def answer_path(root: Path) -> Path:
    return next(path for path in root.iterdir() if path.is_dir())


def test_the_command_that_is_offered_reads_its_recipe(tmp_path: Path) -> None:
    answer = failed(tmp_path, oom).explain()
    words = answer.rerun.split()
    assert words[0] == "automodel"
    loaded = load_recipe(words[1], overrides=words[2:])
    assert loaded.recipe.step_scheduler.local_batch_size == 2


def test_how_an_explanation_shows(tmp_path: Path) -> None:
    run = failed(tmp_path, oom)
    answer = run.explain()
    assert "--step_scheduler.local_batch_size=2" in str(answer)
    given = json.loads(json.dumps(answer.as_dict()))
    assert given["remedies"][0]["overrides"] == ["--step_scheduler.local_batch_size=2"]
    assert given["fixes"][0].endswith("--step_scheduler.local_batch_size=2")
    assert "<ol>" in answer._repr_html_()
    shown = subprocess.run(
        [sys.executable, "-m", "automodel", "explain", str(run.path), "--json"], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    assert json.loads(shown.stdout)["key"] == "oom_host"


def test_what_no_rule_knows_is_left_alone() -> None:
    assert explain_text("all is well") is None
    assert match("loss 2.3 at step 9, NaNo particles") is None
    assert str(Remedy("do it")) == "do it"
