"""The tiny models as GGUF files, with the conventions of llama.cpp's converter.

* llama's query and key rows are permuted from halves (rotate i with i + d/2) to pairs (rotate 2i with 2i + 1);
* llama3's rope scaling becomes a tensor `rope_freqs.weight` of d/2 divisors, linear and yarn become metadata;
* a tied head has no `output.weight`; norms and biases stay f32 in every file.
"""

import math

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

import tokenizer as tokenizer_module
from families import head_dim, rope

FILE_TYPES = {
    Q.F32: gguf.LlamaFileType.ALL_F32, Q.F16: gguf.LlamaFileType.MOSTLY_F16, Q.BF16: gguf.LlamaFileType.MOSTLY_BF16,
    Q.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0, Q.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
    Q.Q4_1: gguf.LlamaFileType.MOSTLY_Q4_1, Q.Q5_0: gguf.LlamaFileType.MOSTLY_Q5_0,
    Q.Q5_1: gguf.LlamaFileType.MOSTLY_Q5_1, Q.Q2_K: gguf.LlamaFileType.MOSTLY_Q2_K,
    Q.Q3_K: gguf.LlamaFileType.MOSTLY_Q3_K_M, Q.Q4_K: gguf.LlamaFileType.MOSTLY_Q4_K_M,
    Q.Q5_K: gguf.LlamaFileType.MOSTLY_Q5_K_M, Q.Q6_K: gguf.LlamaFileType.MOSTLY_Q6_K,
}
NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    if name in fixed:
        return fixed[name]
    _, _, layer, rest = name.split(".", 3)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[module]}.{kind}"


def permute(w, heads):
    """Halves to pairs within every head. w: [heads * head_dim, columns]."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


def rotated_heads(config, name):
    """How many heads a llama projection's rows are to be permuted in; 0 for every other tensor and family."""
    if config["model_type"] != "llama":
        return 0
    if name.endswith("q_proj.weight"):
        return config["num_attention_heads"]
    return config["num_key_value_heads"] if name.endswith("k_proj.weight") else 0


def random_blocks(kind, rows, columns, rng):
    """Blocks of a K-quant whose every bit but the f16 scales' is random, for gguf-py reads these formats but does not
    write them. The scales are chosen so that the weights have a mean near 0 and a spread near 1/sqrt(columns)."""
    block = gguf.GGML_QUANT_SIZES[kind][1]
    count = rows * columns // 256
    raw = rng.integers(0, 256, (count, block), dtype=np.uint8)
    # byte offsets of d and dmin, and dmin / d that centres the weights
    d_at, min_at, ratio = {
        Q.Q2_K: (80, 82, 1.5), Q.Q3_K: (108, None, 0), Q.Q4_K: (0, 2, 7.5), Q.Q5_K: (0, 2, 15.5), Q.Q6_K: (208, None, 0),
    }[kind]

    def scale(d):
        raw[:, d_at:d_at + 2] = d.astype(np.float16).view(np.uint8).reshape(count, 2)
        if min_at is not None:
            raw[:, min_at:min_at + 2] = (ratio * d).astype(np.float16).view(np.uint8).reshape(count, 2)

    scale(np.ones(count, np.float32))
    spread = gguf.quants.dequantize(raw, kind).std()
    scale(rng.uniform(0.7, 1.3, count).astype(np.float32) / (spread * columns**0.5))
    return raw.reshape(rows, columns // 256 * block)


def encode(tensor, kind, rng):
    if kind in (Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K):
        return random_blocks(kind, *tensor.shape, rng)
    return gguf.quants.quantize(tensor, kind)


def llama3_divisors(config, scaling):
    dims = head_dim(config)
    theta, _ = rope(config)
    low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    out = []
    for i in range(0, dims, 2):
        wavelength = 2 * math.pi * theta ** (i / dims)
        if wavelength < high:
            out.append(1.0)
        elif wavelength > low:
            out.append(scaling["factor"])
        else:
            smooth = (scaling["original_max_position_embeddings"] / wavelength - scaling["low_freq_factor"]) / (
                scaling["high_freq_factor"] - scaling["low_freq_factor"])
            out.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def write(path, name, config, tensors, kind, bpe, seed):
    """Writes the file and returns the f32 tensors that it means, under the hub's names and in the hub's row order."""
    rng = np.random.default_rng(seed)
    w = gguf.GGUFWriter(path, config["model_type"])
    w.add_name(f"longleaf tiny {name}")
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config["num_key_value_heads"])
    theta, scaling = rope(config)
    w.add_rope_freq_base(theta)
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_file_type(FILE_TYPES[kind])
    w.add_vocab_size(config["vocab_size"])
    if config["model_type"] == "llama":
        w.add_rope_dimension_count(head_dim(config))
    if "head_dim" in config:
        w.add_key_length(config["head_dim"])
        w.add_value_length(config["head_dim"])
    if scaling and scaling["type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_divisors(config, scaling))
    elif scaling:
        w.add_rope_scaling_type(gguf.RopeScalingType(scaling["type"]))
        w.add_rope_scaling_factor(scaling["factor"])
        if "original_max_position_embeddings" in scaling:
            w.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    add_tokenizer(w, bpe, config)
    meant = {}
    for key, tensor in tensors.items():
        heads = rotated_heads(config, key)
        laid_out = permute(tensor, heads) if heads else tensor
        one = Q.F32 if tensor.ndim == 1 else kind
        data = encode(laid_out, one, rng)
        w.add_tensor(gguf_name(key), data, raw_dtype=one)
        back = gguf.quants.dequantize(data, one).reshape(tensor.shape)
        meant[key] = np.ascontiguousarray(unpermute(back, heads) if heads else back, dtype=np.float32)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return meant


def add_tokenizer(w, bpe, config):
    words = [bpe.id_to_token(i) for i in range(bpe.get_vocab_size())]
    special = len(tokenizer_module.SPECIAL)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(words)
    w.add_token_types([gguf.TokenType.CONTROL if i < special else gguf.TokenType.NORMAL for i in range(len(words))])
    w.add_token_merges(tokenizer_module.merges(bpe))
    w.add_bos_token_id(config["bos_token_id"])
    w.add_eos_token_id(config["eos_token_id"])
    w.add_unk_token_id(0)
    w.add_pad_token_id(0)
    w.add_add_bos_token(False)
    w.add_chat_template(tokenizer_module.TEMPLATE)
