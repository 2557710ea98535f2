#!/usr/bin/env python3
"""Makes the tiny models of this folder and their expected outputs under `golden/`.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch==2.15.0 transformers==5.23.0 tokenizers==0.23.3 \
        safetensors==0.8.0 gguf==0.19.0 numpy==2.4.6
    /tmp/venv/bin/python testdata/models/make.py            write everything again
    /tmp/venv/bin/python testdata/models/make.py --check    compare instead: files byte for byte, logits to 1e-4
    /tmp/venv/bin/python testdata/models/make.py --check --llama-cpp    also run llama.cpp on the GGUF files
                                                            (pip install llama-cpp-python==0.3.36)

Seeds are fixed. Model files come out the same byte for byte on any machine; logits come from torch's f32 kernels,
whose last bits depend on the CPU. What the golden files hold is said in README.md.
"""

import base64
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import safetensors.torch
import torch
import transformers
from gguf import GGMLQuantizationType as Q

import gguf_files
import tokenizer
from families import FAMILIES, SMOLLM2, VOCABULARY, WIDE, weights

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 32
GAP = 0.02
# file name: (folder whose weights and prompt it takes, or a configuration, tensor type)
GGUF = {
    "llama-f32": ("llama", Q.F32), "llama3-f16": ("llama3", Q.F16), "llama-linear-f16": ("llama-linear", Q.F16),
    "llama-yarn-f16": ("llama-yarn", Q.F16),
    "smollm2-f16": ("smollm2", Q.F16), "smollm2-bf16": ("smollm2", Q.BF16), "smollm2-q8_0": ("smollm2", Q.Q8_0),
    "smollm2-q4_0": ("smollm2", Q.Q4_0), "smollm2-q4_1": ("smollm2", Q.Q4_1), "smollm2-q5_0": ("smollm2", Q.Q5_0),
    "smollm2-q5_1": ("smollm2", Q.Q5_1),
    "qwen2-f16": ("qwen2", Q.F16), "qwen2-yarn-f16": ("qwen2-yarn", Q.F16), "qwen3-f16": ("qwen3", Q.F16),
    "wide-q2_k": (WIDE, Q.Q2_K), "wide-q3_k": (WIDE, Q.Q3_K), "wide-q4_k": (WIDE, Q.Q4_K),
    "wide-q5_k": (WIDE, Q.Q5_K), "wide-q6_k": (WIDE, Q.Q6_K),
}


def prompts(length, seed):
    """Random prompts, one after the other."""
    for more in range(50):
        yield [int(i) for i in np.random.default_rng(1000 + 100 * more + seed).integers(3, VOCABULARY, length)]


def oracle(config, tensors):
    """transformers' model of that configuration, holding those f32 tensors. config.json goes through a file, as a
    user's would."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(config))
        parsed = transformers.AutoConfig.from_pretrained(folder)
    parsed._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(parsed, dtype=torch.float32).eval()
    state = {k: torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)) for k, v in tensors.items()}
    if config["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    return model


@torch.inference_mode()
def golden(name, config, tensors, prompt):
    """Logits of some positions of one pass over the prompt, then greedy tokens, each from a fresh pass over everything
    before it (no cache: with dynamic rope scaling a cache of rotated keys would mix several rotations)."""
    model = oracle(config, tensors)
    everything = model(torch.tensor([prompt]), use_cache=False).logits[0].numpy()
    n = len(prompt)
    positions = [0, n // 3, 2 * n // 3, n - 2, n - 1]
    ids, gap = list(prompt), float("inf")
    for _ in range(STEPS):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1].numpy()
        first, second = np.sort(logits)[-2:][::-1]
        gap = min(gap, float(first - second))
        ids.append(int(logits.argmax()))
    return {
        "model": name, "prompt": prompt, "positions": positions, "vocabulary": VOCABULARY,
        "logits_f32_base64": base64.b64encode(everything[positions].astype("<f4").tobytes()).decode(),
        "greedy": ids[n:], "smallest_gap": round(gap, 6),
    }


def write_folder(folder, config, tensors, bpe, shards=1):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer.config(config["eos_token_id"]), indent=2) + "\n")
    bpe.save(str(folder / "tokenizer.json"))
    if shards == 1:
        safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, index = list(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {n: tensors[n] for n in names[i * len(names) // shards:(i + 1) * len(names) // shards]}
        safetensors.torch.save_file(part, folder / file, metadata={"format": "pt"})
        index |= {n: file for n in part}
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": index}, indent=2) + "\n")


def make(root):
    bpe = tokenizer.make()
    outputs, logits_of = root / "golden", {}
    outputs.mkdir(parents=True)

    def record(name, config, tensors, length, seed):
        # the first prompt whose greedy tokens rounding errors cannot change
        tried = (golden(name, config, tensors, prompt) for prompt in prompts(length, seed))
        result = next(g for g in tried if g["smallest_gap"] > GAP and len(set(g["greedy"])) > 3)
        logits_of[name] = result["logits_f32_base64"]
        (outputs / f"{name}.json").write_text(json.dumps(result) + "\n")
        print(f"{name:18} smallest gap {result['smallest_gap']:.4f}, {len(set(result['greedy']))} different tokens")

    for name, (config, seed, length) in FAMILIES.items():
        tensors = {k: torch.from_numpy(v) for k, v in weights(config, seed).items()}
        write_folder(root / name, config, tensors, bpe)
        record(name, config, {k: v.numpy() for k, v in tensors.items()}, length, seed)
        if name == "smollm2":
            write_folder(root / "smollm2-sharded", config, tensors, bpe, shards=3)
            record("smollm2-sharded", config, {k: v.numpy() for k, v in tensors.items()}, length, seed)
        if name == "llama":
            for twin, dtype in (("llama-bf16", torch.bfloat16), ("llama-f16", torch.float16)):
                small = {k: v.to(dtype) for k, v in tensors.items()}
                own = config | {"torch_dtype": str(dtype).removeprefix("torch.")}
                write_folder(root / twin, own, small, bpe)
                record(twin, config, {k: v.float().numpy() for k, v in small.items()}, length, seed)
    assert len({logits_of[n] for n in FAMILIES}) == len(FAMILIES), "two rope variants came out alike"

    (root / "gguf").mkdir()
    for name, (source, kind) in GGUF.items():
        config, seed, length = FAMILIES[source] if isinstance(source, str) else (source, 6, 96)
        meant = gguf_files.write(root / "gguf" / f"{name}.gguf", name, config, weights(config, seed), kind, bpe, seed)
        record(name, config, meant, length, seed)

    chat = [{"role": "user", "content": "How long is the leaf?"}]
    hub = transformers.AutoTokenizer.from_pretrained(root / "smollm2")
    (outputs / "tokenizer.json").write_text(json.dumps({
        "texts": [{"text": s, "ids": bpe.encode(s, add_special_tokens=False).ids} for s in tokenizer.SAMPLES],
        "chat": {"messages": chat, "text": hub.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)},
    }, indent=1, ensure_ascii=False) + "\n")


def compare(fresh):
    """Fresh files against the committed ones; every difference is printed."""
    bad = 0
    for file in sorted(p for p in fresh.rglob("*") if p.is_file()):
        committed = HERE / file.relative_to(fresh)
        same = committed.exists() and committed.read_bytes() == file.read_bytes()
        if not same and committed.exists() and file.parent.name == "golden" and file.name != "tokenizer.json":
            a, b = (json.loads(p.read_text()) for p in (committed, file))
            la, lb = (np.frombuffer(base64.b64decode(x.pop("logits_f32_base64")), "<f4") for x in (a, b))
            a.pop("smallest_gap"), b.pop("smallest_gap")
            same = a == b and np.abs(la - lb).max() < 1e-4
        if not same:
            print(f"differs: {committed}")
            bad += 1
    print("the same" if bad == 0 else f"{bad} files differ")
    return bad


def against_llama_cpp():
    """Prints how far llama.cpp is from the golden logits; its activations are 8-bit for quantised files."""
    import llama_cpp

    for name in GGUF:
        expected = json.loads((HERE / "golden" / f"{name}.json").read_text())
        logits = np.frombuffer(base64.b64decode(expected["logits_f32_base64"]), "<f4").reshape(-1, VOCABULARY)
        n = len(expected["prompt"])
        model = llama_cpp.Llama(str(HERE / "gguf" / f"{name}.gguf"), n_ctx=512, logits_all=True, verbose=False,
                                n_threads=1, n_threads_batch=1)
        model.eval(expected["prompt"])
        got = model.scores[expected["positions"]]
        far = np.abs(got - logits).max()
        agree = (got.argmax(-1) == logits.argmax(-1)).sum()
        print(f"{name:18} {n} tokens: llama.cpp differs by {far:.4f}, argmax alike at {agree} of {len(logits)}")


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        fresh = pathlib.Path(folder) / "models"
        make(fresh)
        if "--check" in sys.argv:
            bad = compare(fresh)
            if "--llama-cpp" in sys.argv:
                against_llama_cpp()
            sys.exit(min(bad, 1))
        for made in fresh.iterdir():
            shutil.rmtree(HERE / made.name, ignore_errors=True)
            shutil.copytree(made, HERE / made.name)


if __name__ == "__main__":
    main()
