"""transformers on torch (CPU), the GGUF file dequantised once by `convert_torch.py`.

Modes: `bf16`, `f32`, `f32-bf16math` (f32 tensors, products allowed in bf16), `int8` (f32 with every Linear through
torch's dynamic int8 quantisation); SDPA attention in all of them.
"""

import warnings

import torch
import transformers

from measure import arguments, clock, random_tokens, report


def load(folder, mode):
    dtype = torch.bfloat16 if mode == "bf16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()
    if mode == "f32-bf16math":
        torch.set_float32_matmul_precision("medium")
    if mode == "int8":
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    return model


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    torch.set_num_interop_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = load(a.model, a.mode or "bf16")
    vocabulary = model.config.vocab_size

    def feed(ids, cache):
        with torch.inference_mode():
            model(torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)

    def feed_one_by_one(ids, cache):
        for i in ids:
            feed([i], cache)

    def decode(depth, cache):
        ids = random_tokens(a.decode + 2, vocabulary, a.seed + 1)
        feed_one_by_one(ids[:2], cache)
        report("decode", a.decode, depth, clock(lambda: feed_one_by_one(ids[2:], cache)))

    feed(random_tokens(64, vocabulary, 0), transformers.DynamicCache(config=model.config))
    depths = set(a.depth)
    for n in sorted(set(a.prefill) | depths):
        cache = transformers.DynamicCache(config=model.config)
        if n:
            ids = random_tokens(n, vocabulary, a.seed)
            seconds = clock(lambda: feed(ids, cache))
            if n in a.prefill:
                report("prefill", n, 0, seconds)
        if n in depths:
            decode(n, cache)


if __name__ == "__main__":
    main()
