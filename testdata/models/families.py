"""The tiny models: a configuration each, in the words of the hub's `config.json`, and seeded random weights.

A family's weights are drawn once; its rope variants differ in the configuration alone, so that a test which ignores
the rope fields fails.
"""

import numpy as np

VOCABULARY = 320

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32",
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "hidden_act": "silu",
    "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
    "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False,
    "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 2,
}
SMOLLM2 = LLAMA | {
    "hidden_size": 64, "num_attention_heads": 4, "rope_theta": 100000.0, "tie_word_embeddings": True,
    "bos_token_id": 1,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "model_type": "mistral", "torch_dtype": "float32",
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_act": "silu",
    "max_position_embeddings": 256, "sliding_window": 16, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 2,
}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "torch_dtype": "float32",
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
    "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    # as in the published models: a window is written down and switched off
    "use_sliding_window": False, "sliding_window": 16, "max_window_layers": 1,
    "tie_word_embeddings": True, "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 2,
}
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "float32",
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16,
    "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
    "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_scaling": None,
    "attention_bias": False, "use_sliding_window": False, "sliding_window": None, "max_window_layers": 2,
    "tie_word_embeddings": True, "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 2,
}
# rows of 256 columns, which the K-quants' blocks need; one layer keeps the file small
WIDE = SMOLLM2 | {
    "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 1,
}


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


LLAMA3_SCALING = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES = {
    # folder: (configuration, seed of the weights, prompt length)
    "llama": (LLAMA, 1, 96),
    "llama3": (LLAMA | {"rope_scaling": LLAMA3_SCALING}, 1, 160),
    "llama-linear": (LLAMA | {"rope_scaling": {"type": "linear", "factor": 4.0}}, 1, 96),
    # the prompt goes beyond the 64 positions that dynamic scaling starts from
    "llama-dynamic": (
        LLAMA | {"max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, 1, 120),
    # the newer spelling: one object, and no `rope_theta` outside it
    "llama-yarn": (
        without(LLAMA, "rope_theta", "rope_scaling") | {"rope_parameters": {
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64,
        }}, 1, 160),
    "smollm2": (SMOLLM2, 2, 96),
    "mistral": (MISTRAL, 3, 80),
    "qwen2": (QWEN2, 4, 96),
    "qwen2-yarn": (
        QWEN2 | {"max_position_embeddings": 64, "rope_scaling": {
            "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
        }}, 4, 160),
    "qwen3": (QWEN3, 5, 96),
}


def head_dim(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def rope(config):
    """The rope fields of either spelling as (theta, scaling or None)."""
    fields = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = fields.pop("rope_theta", None) or config["rope_theta"]
    kind = fields.pop("rope_type", None) or fields.pop("type", None)
    return theta, (fields | {"type": kind}) if kind else None


def weights(config, seed):
    """Random f32 tensors under the hub's names, scaled so that attention is neither flat nor one-hot."""
    rng = np.random.default_rng(seed)
    wide, inner, hd = config["hidden_size"], config["intermediate_size"], head_dim(config)
    heads, groups = config["num_attention_heads"] * hd, config["num_key_value_heads"] * hd
    tensors = {}

    def draw(name, shape, scale, mean=0.0):
        tensors[name] = (mean + scale * rng.standard_normal(shape)).astype(np.float32)

    def linear(name, rows, columns, gain=1.0):
        draw(f"{name}.weight", (rows, columns), gain / columns**0.5)

    draw("model.embed_tokens.weight", (config["vocab_size"], wide), 0.25)
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}"
        draw(f"{at}.input_layernorm.weight", wide, 0.2, 1.0)
        linear(f"{at}.self_attn.q_proj", heads, wide, 1.5)
        linear(f"{at}.self_attn.k_proj", groups, wide, 1.5)
        linear(f"{at}.self_attn.v_proj", groups, wide)
        linear(f"{at}.self_attn.o_proj", wide, heads, 2.0)
        if config["model_type"] == "qwen2":
            for p, rows in (("q", heads), ("k", groups), ("v", groups)):
                draw(f"{at}.self_attn.{p}_proj.bias", rows, 0.5)
        if config["model_type"] == "qwen3":
            draw(f"{at}.self_attn.q_norm.weight", hd, 0.2, 1.2)
            draw(f"{at}.self_attn.k_norm.weight", hd, 0.2, 1.2)
        draw(f"{at}.post_attention_layernorm.weight", wide, 0.2, 1.0)
        linear(f"{at}.mlp.gate_proj", inner, wide)
        linear(f"{at}.mlp.up_proj", inner, wide)
        linear(f"{at}.mlp.down_proj", wide, inner, 2.0)
    draw("model.norm.weight", wide, 0.2, 1.0)
    if not config["tie_word_embeddings"]:
        linear("lm_head", config["vocab_size"], wide, 3.0)
    return tensors
