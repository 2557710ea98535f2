"""How many bits do the activations of SmolLM2 need? Rounds the input of every linear layer in transformers, and in the
last cases its weights too, with one scale a row (the head's stay).

Usage: python activation_bits.py FOLDER FILE.gguf TEXT.txt   (torch, transformers, gguf from PyPI)
Prints for each rounding: RMS error of the logits, changed first choices over 1,500 tokens and the largest gap between the
two best logits at which one changed, ratio of perplexities, KL divergence from f32.
"""
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, file, text = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
tokens = torch.tensor([tokenizer(open(text).read()[:12000])["input_ids"][:1500]])


def fixed(x, bits, group):
    """Symmetric fixed point of so many bits, one scale for each group."""
    y = x.reshape(*x.shape[:-1], x.shape[-1] // group, group)
    scale = y.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    scale[scale == 0] = 1
    return (torch.round(y / scale) * scale).reshape(x.shape)


rounding = [lambda x: x]
for module in model.modules():
    if isinstance(module, torch.nn.Linear):
        module.register_forward_pre_hook(lambda _, args: (rounding[0](args[0]),))

with torch.no_grad():
    exact = model(tokens).logits[0]
    best = exact.topk(2, -1).values
    gap, log_p = best[:, 0] - best[:, 1], torch.log_softmax(exact[:-1], -1)
    nll = -log_p.gather(1, tokens[0, 1:, None]).mean()
    cases = {"bf16": lambda x: x.bfloat16().float()}
    for bits, group in [(8, 32), (8, 16), (10, 64), (12, 64), (15, 64), (16, 64)]:
        cases[f"{bits} bits in groups of {group}"] = lambda x, b=bits, g=group: fixed(x, b, g)
    cases["8 bits in groups of 64"] = lambda x: fixed(x, 8, 64)
    cases["8 bits a row"] = lambda x: fixed(x, 8, x.shape[-1])
    for group in [32, 64]:
        cases[f"8 bits in groups of {group}, weights 8 bits a row"] = lambda x, g=group: fixed(x, 8, g)
    for name, rounding[0] in cases.items():
        if "weights" in name:  # From here on; rounding twice is rounding once.
            for module in model.modules():
                if isinstance(module, torch.nn.Linear) and module is not model.lm_head:
                    module.weight.data = fixed(module.weight.data, 8, module.weight.shape[1])
        got = model(tokens).logits[0]
        changed = got.argmax(-1) != exact.argmax(-1)
        log_q = torch.log_softmax(got[:-1], -1)
        ratio = (-log_q.gather(1, tokens[0, 1:, None]).mean() - nll).exp()
        print(
            f"{name}: logits ±{(got - exact).std(-1).mean():.4f}, {changed.sum()} changed, "
            f"at gaps up to {gap[changed].max() if changed.any() else 0:.3f}, {(gap[changed] > 0.05).sum()} beyond 0.05; "
            f"perplexity × {ratio:.5f}, KL {(log_p.exp() * (log_p - log_q)).sum(-1).mean():.1e}"
        )
