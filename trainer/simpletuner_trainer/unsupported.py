"""SimpleTuner's keys that this trainer knows and does not do yet, each with what to do instead.

A key that is switched off (false, 0, null, ``"none"``) asks for nothing and is let through. Pure standard library.
"""

from __future__ import annotations

from typing import Final

_HUB: Final = "the job's destination says where results go; the lab makes one of this key"
_LORA: Final = "leave it out: a standard LoRA is trained"
_DATA: Final = "images and captions are read from a local folder"
_VALIDATION: Final = "validation images come from validation_prompt at validation_step_interval"
_NONE: Final = "leave it out"

CONFIG_KEYS: Final[dict[str, str]] = {
    "push_to_hub": _HUB,
    "push_checkpoints_to_hub": _HUB,
    "push_to_hub_background": _HUB,
    "hub_model_id": _HUB,
    "publishing_config": _HUB,
    "webhook_config": "progress is reported in the log lines",
    "webhook_reporting_interval": "progress is reported in the log lines",
    "post_checkpoint_script": "nothing but the trainer runs on the training machine",
    "post_upload_script": "nothing but the trainer runs on the training machine",
    "data_backend_config": "the data sets travel as the `dataloader` list of the spec",
    "data_backend_sampling": "data sets are weighted by `probability` and `repeats`",
    "lycoris_config": _LORA,
    "init_lora_step": "training counts its steps from the start whatever init_lora holds",
    "base_model_precision": "leave it out: the base stays at full precision",
    "text_encoder_1_precision": "leave it out: the base stays at full precision",
    "quantize_via": "leave it out: the base stays at full precision",
    "model_flavour": "name the base in pretrained_model_name_or_path",
    "pretrained_vae_model_name_or_path": "the base's own VAE is used",
    "pretrained_unet_model_name_or_path": "name the base in pretrained_model_name_or_path",
    "revision": "name a folder that holds the wanted revision",
    "variant": "name a folder that holds the wanted variant",
    "controlnet": _NONE,
    "train_text_encoder": "leave it out: the text encoder stays as it is",
    "gradient_checkpointing_interval": "gradient_checkpointing checkpoints every block",
    "fused_qkv_projections": _NONE,
    "attention_mechanism": "leave it out: torch's scaled dot-product attention is used",
    "optimizer_offload_gradients": _NONE,
    "lr_scale": "set learning_rate to the value you mean",
    "noise_offset": _NONE,
    "input_perturbation": _NONE,
    "offset_noise": _NONE,
    "min_snr_gamma": "it is called snr_gamma",
    "prediction_type": "the base's scheduler says it",
    "rescale_betas_zero_snr": "the base's scheduler says it",
    "training_scheduler_timestep_spacing": "timesteps are drawn uniformly",
    "timestep_bias_strategy": "timesteps are drawn uniformly",
    "flow_schedule_shift": "the sd family has no flow schedule",
    "flow_schedule_auto_shift": "the sd family has no flow schedule",
    "ema_device": "EMA weights stay beside the trained ones",
    "ema_update_interval": "EMA follows every step",
    "delete_unwanted_images": "a broken or small image is reported before training",
    "delete_problematic_images": "a broken or small image is reported before training",
    "crop": "set it on each data set",
    "crop_style": "set it on each data set",
    "crop_aspect": "set it on each data set",
    "caption_strategy": "set it on each data set",
    "instance_prompt": "set it on each data set",
    "user_prompt_library": _VALIDATION,
    "validation_prompt_library": _VALIDATION,
    "validation_negative_prompt": "the empty prompt is used",
    "validation_preview": _VALIDATION,
    "validation_preview_steps": _VALIDATION,
    "validation_noise_scheduler": "the base's own scheduler is used",
    "validation_guidance_rescale": _VALIDATION,
    "validation_num_video_frames": _VALIDATION,
    "validation_epoch_interval": _VALIDATION,
    "num_eval_images": _VALIDATION,
    "num_validation_images": "list more prompts in validation_prompt",
    "eval_steps_interval": _VALIDATION,
    "evaluation_type": _VALIDATION,
    "checkpoint_epoch_interval": "use checkpoint_step_interval",
    "deepspeed_config": "one process trains",
    "fsdp_enable": "one process trains",
    "num_processes": "one process trains",
    "enable_xformers_memory_efficient_attention": "torch's scaled dot-product attention is used",
}
"""Of config.json."""

DATASET_KEYS: Final[dict[str, str]] = {
    "aws_bucket_name": _DATA,
    "aws_data_prefix": _DATA,
    "aws_endpoint_url": _DATA,
    "aws_access_key_id": _DATA,
    "aws_secret_access_key": _DATA,
    "csv_file": _DATA,
    "parquet": _DATA,
    "huggingface": _DATA,
    "dataset_name": _DATA,
    "conditioning_data": _NONE,
    "conditioning_type": _NONE,
    "conditioning": _NONE,
    "source_dataset_id": _NONE,
    "is_regularisation_data": _NONE,
    "is_regularization_data": _NONE,
    "caption_shuffle": _NONE,
    "caption_filter_list": _NONE,
    "metadata_backend": _NONE,
    "preserve_data_backend_cache": _NONE,
    "scan_for_errors": "every image is checked before training",
    "skip_file_discovery": _NONE,
    "vae_cache_clear_each_epoch": _NONE,
    "hash_filenames": "caches are addressed by content",
    "disable_vae_cache": _NONE,
    "video": _NONE,
    "audio": _NONE,
}
"""Of one entry of the dataloader list."""
