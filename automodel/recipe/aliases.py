"""The names of NeMo AutoModel and torch, and what each is here. Facts in tables; the forms_* files apply them."""

from __future__ import annotations

# Class names that may stand in model._target_ -> the recipe that trains such a model, when the file names none.
SFT = "TrainFinetuneRecipeForNextTokenPrediction"
MODEL_CLASSES = {
    "NeMoAutoModelForCausalLM": SFT,
    "NeMoAutoModelForImageTextToText": "FinetuneRecipeForVLM",
    "NeMoAutoModelForMultimodalLM": "FinetuneRecipeForVLM",
    "NeMoAutoModelForSequenceClassification": "TrainFinetuneRecipeForSequenceClassification",
    "AutoModelForCausalLM": SFT,
    "AutoModelForImageTextToText": "FinetuneRecipeForVLM",
    "AutoModelForSequenceClassification": "TrainFinetuneRecipeForSequenceClassification",
}

# Config fields that recipes set beside the model id; others go the same way, with a warning.
CONFIG_FIELDS = {
    "text_config", "vision_config", "audio_config", "output_hidden_states", "num_nextn_predict_layers", "rope_scaling", "rope_theta",
    "rope_parameters", "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size",
    "router_aux_loss_coef", "mtp_loss_scaling_factor", "mtp_use_repeated_layer", "tie_word_embeddings", "use_cache", "max_position_embeddings",
    "attention_dropout", "hidden_dropout", "layer_types", "sliding_window", "num_experts_per_tok", "id2label", "label2id",
}  # fmt: skip
MODEL_NOT_HERE = {"quantization_config", "fp8_config", "compile_config", "qat_config", "peft_config", "device_mesh", "distributed_setup"}

OPTIMIZERS = {
    "AdamW": ("adamw", {"lr": 1e-3, "weight_decay": 0.01}),
    "Adam": ("adam", {"lr": 1e-3}),
    "SGD": ("sgd", {"lr": 1e-3}),
    "Adafactor": ("adafactor", {"lr": 1e-2}),
    "Adagrad": ("adagrad", {"lr": 1e-2, "eps": 1e-10}),
    "RMSprop": ("rmsprop", {"lr": 1e-2}),
}
# Optimizers of GPU libraries, read as torch's; their storage settings mean nothing to it.
FUSED_OPTIMIZERS = {"FusedAdam": "adamw", "FlashAdamW": "adamw", "FlashAdam": "adam"}
FUSED_FIELDS = (
    "master_weights", "adam_w_mode", "bias_correction", "store_param_remainders", "exp_avg_dtype", "exp_avg_sq_dtype", "master_weight_bits",
    "compress_state_dict", "master_weight_dtype", "capturable", "use_triton", "set_grad_none", "use_decoupled_grad",
)  # fmt: skip
SCHEDULER_FIELDS_IN_OPTIMIZER = ("warmup_ratio", "min_lr_ratio", "warmup_steps", "min_lr", "lr_decay_style", "lr_warmup_steps")
# Defaults of torch that may be written out: they say nothing, so they are dropped when they hold the default.
TORCH_DEFAULTS = {"amsgrad": False, "maximize": False, "capturable": False, "differentiable": False, "nesterov": False, "dampening": 0}

LOSSES = {
    "MaskedCrossEntropy": "masked_ce",
    "ChunkedCrossEntropy": "chunked_ce",
    "FusedLinearCrossEntropy": "fused_linear_ce",
    "TEParallelCrossEntropy": "te_parallel_ce",
    "CrossEntropyLoss": "masked_ce",
}

DATASETS = {
    "make_squad_dataset": "squad",
    "SquadConfig": "squad",
    "HellaSwag": "hellaswag",
    "ChatDataset": "chat",
    "ColumnMappedTextInstructionDataset": "column_mapped",
    "ColumnMappedTextInstructionIterableDataset": "column_mapped",
    "MockIterableDataset": "mock",
    "build_unpacked_dataset": "mock",
    "GLUE_MRPC": "seq_cls",
}
SQUAD_HUB = "rajpurkar/squad"
DATASET_SPELLINGS = {
    "path_or_dataset_id": "path_or_dataset",
    "dataset_name": "path_or_dataset",
    "path": "path_or_dataset",
    "seq_len": "seq_length",
    "max_length": "seq_length",
    "max_seq_length": "seq_length",
    "num_samples_limit": "limit_dataset_samples",
}
DATASET_IGNORED = {
    "fp8": "upstream never reads it",
    "batch_size": "batches are made by step_scheduler",
    "repeat_on_exhaustion": "epochs repeat the data",
    "unshifted": "labels are shifted where the loss is computed",
    "start_of_turn_token": "answers are found by the chat template",
}

PEFT_SPELLINGS = {"r": "dim", "lora_alpha": "alpha", "lora_dropout": "dropout", "rank": "dim"}
PEFT_IGNORED = {
    "use_triton": "kernels are chosen by the model",
    "use_memory_efficient_lora": "kernels are chosen by the model",
    "dropout_position": "dropout acts on the adapter's input, as in the peft library",
    "lora_A_init": "use init_lora_weights",
}
LR_SPELLINGS = {
    "warmup_steps": "lr_warmup_steps",
    "lr_wsd_decay_style": "wsd_decay_style",
    "lr_wsd_decay_steps": "wsd_decay_steps",
    "schedule": "lr_decay_style",
}
LR_STYLES = {"inverse_square_root": "inverse-square-root", "inverse_sqrt": "inverse-square-root", "inverse-sqrt": "inverse-square-root", "wsd": "WSD"}

MANAGERS = {
    "FSDP2Manager": "fsdp2",
    "FSDP2Config": "fsdp2",
    "DDPManager": "ddp",
    "DDPConfig": "ddp",
    "MegatronFSDPManager": "megatron_fsdp",
    "MegatronFSDPConfig": "megatron_fsdp",
}
DISTRIBUTED_OPTIONS = {
    "defer_fsdp_grad_sync", "mp_policy", "offload_policy", "autocast_dtype", "multimodal", "enable_fsdp2_prefetch", "enable_async_tensor_parallel",
    "enable_compile", "patch_is_packed_sequence", "reshard_after_forward", "fsdp2_forward_prefetch_depth", "fsdp2_backward_prefetch_depth",
    "static_graph", "bucket_cap_mb", "gradient_as_bucket_view", "tp_plan", "zero_dp_strategy", "init_fsdp_with_meta_device", "grad_reduce_in_fp32",
    "preserve_fp32_weights", "overlap_grad_reduce", "overlap_param_gather", "check_for_nan_in_grad", "average_in_collective", "disable_bucketing",
    "calculate_per_token_loss", "keep_fp8_transpose_cache", "nccl_ub", "fsdp_double_buffer", "megatron_fsdp_unit_modules", "dcp_save_load",
}  # fmt: skip
DISTRIBUTED_IGNORED = {
    "use_hf_tp_plan": "upstream never reads it",
    "world_size": "it is the number of processes started",
    "backend": "it is dist_env.backend",
    "device_mesh": "it is worked out",
    "moe_mesh": "it is worked out",
}
CHECKPOINT_OPTIONS = {
    "wait_for_staging", "cpu_offload", "allow_legacy_pickle_restore", "dequantize_base_checkpoint", "staging_dir", "single_rank_consolidation",
    "diffusers_compatible", "consolidation_timeout_minutes", "skip_task_head_prefixes_for_base_model", "model_cache_dir", "model_repo_id", "is_peft",
}  # fmt: skip
PACKING_OPTIONS = {
    "num_proc", "prepacked", "drop_long_samples", "pretokenize", "max_length", "pack_size", "packing_ratio", "collate_max_length",
    "balance_media_tokens", "attn_implementation", "packing_format", "post_tokenize_hook_fn",
}  # fmt: skip
COLLATERS_DROPPED = {"default_collater", "default_collate"}

# Top-level blocks that upstream itself ignores, or that only tune its own machinery.
IGNORED_SECTIONS = {
    "ci": "upstream's test metadata; it has no meaning for a run",
    "parallelizer": "upstream no longer reads it",
    "autopipeline": "upstream no longer reads it; it is now distributed.pipeline",
    "nvtx": "profiler ranges have no effect here",
    "prewarm": "kernels are not warmed up here",
    "moe_metrics": "expert load is not logged here",
    "mfu": "utilisation is measured by the metrics",
    "performance": "it tunes upstream's own loop",
    "temperature": "write it in kd_loss_fn",
}
# Top-level blocks of upstream's other recipe kinds, which this library does not have.
FOREIGN_SECTIONS = {
    "recipe_args": "speculative decoding", "dflash": "speculative decoding", "flow_matching": "diffusion", "data": "diffusion", "fsdp": "diffusion",
    "ddp": "diffusion",
    "inference": "diffusion", "output": "diffusion", "vae": "diffusion", "ema": "multimodal training", "dllm": "diffusion language models",
    "distributed_config": "diffusion language models", "tool_call_eval": "tool-call evaluation", "longalign": "length grouping",
    "qat": "quantisation-aware training", "embedding_row_repair": "embedding repair", "mining": "retrieval", "distill_loss": "retrieval",
    "mse_loss": "retrieval", "infonce_distill_loss": "retrieval", "distill_loss_weight": "retrieval", "mse_loss_weight": "retrieval",
    "nce_distill_loss_weight": "retrieval", "datasets": "several datasets at once", "comet": "the Comet tracker", "nemo_run": "NeMo-Run",
}  # fmt: skip
