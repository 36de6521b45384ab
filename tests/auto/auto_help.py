"""Tiny random models of several families, and a small hub on 127.0.0.1."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class _Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: one gated repository, one of a type nobody knows, and nothing else."""

    def _answer(self) -> None:
        if self.path.startswith(("/api/models/team/gated", "/team/gated")):
            return self._send(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model team/gated is restricted."})
        if self.path.startswith("/team/new/resolve") and self.path.endswith("/config.json"):
            body = json.dumps({"model_type": "llamo", "architectures": ["LlamoForCausalLM"]}).encode()
            return self._send(200, {"X-Repo-Commit": "0" * 40, "ETag": '"abc"'}, body)
        if self.path.startswith("/api/models/team/new"):
            return self._send(200, {"X-Repo-Commit": "0" * 40}, json.dumps({"id": "team/new", "sha": "0" * 40, "siblings": []}).encode())
        if self.path.startswith("/team/new/"):
            return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "0" * 40})
        return self._send(404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def small_hub() -> Iterator[str]:
    """Run the small hub; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
