#!/usr/bin/env python3
"""Makes the expected outputs of the two reference models: greedy tokens here, quality figures in
`docs/quality-reference.json`.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch==2.15.0 transformers==5.23.0 tokenizers==0.23.3 \
        gguf==0.19.0 numpy==2.4.6 llama-cpp-python==0.3.36
    make.py MODEL.gguf --folder DIR greedy                      -> testdata/golden/<name>.json
    make.py MODEL.gguf --folder DIR perplexity --prose DIR      -> docs/quality-reference.json
    make.py MODEL.gguf --folder DIR lambada --items FILE        -> docs/quality-reference.json

DIR holds the model dequantised to f32, made by `bench/peers/convert_torch.py MODEL.gguf DIR`. `--llama-cpp` lets
llama.cpp (the same GGUF file, one thread) answer instead and writes its numbers beside; both parts merge into the
files, so they can run one after the other. The protocols are spelled out in README.md.
"""

import argparse
import hashlib
import importlib.metadata
import json
import math
import pathlib

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers

HERE = pathlib.Path(__file__).resolve().parent
QUALITY = HERE.parent.parent / "docs" / "quality-reference.json"
NAMES = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": "smollm2",
    "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf": "qwen2.5-coder-1.5b",
}
NOVELS = ["Chesterton_Thursday_1908.txt", "Cbronte_Jane_1847.txt", "Conrad_Nostromo_1904.txt"]
STEPS, WINDOW, NOVEL_TOKENS, ITEMS = 64, 2048, 8000, 500
# the word splits that the `tokenizer.ggml.pre` names of the two models stand for, as in their published tokenizer.json
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Tokenizer:
    """The GGUF file's vocabulary, merges, special tokens and chat template in the tokenizers library."""

    def __init__(self, path):
        fields = gguf.GGUFReader(path).fields

        def get(key):
            return fields[f"tokenizer.{key}"].contents()

        words, kinds = get("ggml.tokens"), get("ggml.token_type")
        merges = [tuple(m.split(" ")) for m in get("ggml.merges")]
        t = tokenizers.Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges))
        if get("ggml.pre") == "smollm":
            t.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
        else:
            t.normalizer = normalizers.NFC()
            t.pre_tokenizer = pre_tokenizers.Sequence([
                pre_tokenizers.Split(tokenizers.Regex(QWEN2_SPLIT), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        t.decoder = decoders.ByteLevel()
        control = [w for w, k in zip(words, kinds) if k in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED)]
        t.add_special_tokens([tokenizers.AddedToken(w, normalized=False, special=True) for w in control])
        self.hub = transformers.PreTrainedTokenizerFast(tokenizer_object=t, chat_template=get("chat_template"))

    def encode(self, text):
        return self.hub.encode(text, add_special_tokens=False)

    def chat(self, messages):
        return self.hub.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


class Torch:
    """transformers in f32."""

    name = "transformers"

    def __init__(self, a):
        torch.set_num_threads(a.threads)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            a.folder, dtype=torch.float32, attn_implementation="sdpa").eval()

    def versions(self):
        return f"transformers {transformers.__version__}, torch {torch.__version__}, f32 weights and activations"

    @torch.inference_mode()
    def greedy(self, prompts):
        """For every prompt STEPS times (best id, its logit, second id, its logit). Each prompt is read alone; then all
        of them step together, their caches padded on the left and masked there, so that a step reads the weights once."""
        caches, best = [], []
        for ids in prompts:
            caches.append(transformers.DynamicCache(config=self.model.config))
            out = self.model(torch.tensor([ids]), past_key_values=caches[-1], logits_to_keep=1)
            best.append(out.logits[0, -1].topk(2))
        longest = max(map(len, prompts))
        together = transformers.DynamicCache(config=self.model.config)
        for i in range(self.model.config.num_hidden_layers):
            padded = [[torch.nn.functional.pad(x, (0, 0, longest - x.shape[2], 0)) for x in (l.keys, l.values)]
                      for l in (c.layers[i] for c in caches)]
            together.update(torch.cat([p[0] for p in padded]), torch.cat([p[1] for p in padded]), i)
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
        steps = [(torch.stack([b[0] for b in best]), torch.stack([b[1] for b in best]))]
        for step in range(STEPS - 1):
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            positions = torch.tensor([[len(ids) + step] for ids in prompts])
            out = self.model(steps[-1][1][:, :1], past_key_values=together, attention_mask=mask, position_ids=positions)
            steps.append(tuple(out.logits[:, -1].topk(2)))
        return [[(i[row, 0].item(), v[row, 0].item(), i[row, 1].item(), v[row, 1].item()) for v, i in steps]
                for row in range(len(prompts))]

    @torch.inference_mode()
    def judge(self, ids, start):
        """For the targets ids[start:]: their log probabilities, and whether each is the arg-max before it."""
        hidden = self.model.model(torch.tensor([ids[:-1]]), use_cache=False).last_hidden_state[0, start - 1:]
        targets, losses, hits = torch.tensor(ids[start:]), [], []
        for h, t in zip(hidden.split(256), targets.split(256)):
            logits = self.model.lm_head(h)
            losses += logits.log_softmax(-1).gather(1, t[:, None])[:, 0].double().tolist()
            hits += (logits.argmax(-1) == t).tolist()
        return losses, hits


class LlamaCpp:
    """llama.cpp on the GGUF file itself; one thread, for its pool spins on a busy machine."""

    name = "llama_cpp"

    def __init__(self, a):
        import llama_cpp
        self.model = llama_cpp.Llama(a.model, n_ctx=WINDOW, n_batch=512, logits_all=a.command != "greedy",
                                     n_threads=a.threads, n_threads_batch=a.threads, verbose=False)

    def versions(self):
        return f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}, its defaults (f16 cache)"

    def tokenize(self, text):
        return self.model.tokenize(text.encode(), add_bos=False, special=True)

    def greedy(self, prompts):
        return [self.greedy_one(prompt) for prompt in prompts]

    def greedy_one(self, prompt):
        import llama_cpp
        self.model.reset()
        ids, top = prompt, []
        for _ in range(STEPS):
            self.model.eval(ids)
            pointer = llama_cpp.llama_get_logits_ith(self.model.ctx, -1)
            logits = np.ctypeslib.as_array(pointer, (self.model.n_vocab(),))
            second, best = np.argpartition(logits, -2)[-2:][np.argsort(np.partition(logits, -2)[-2:])]
            top.append((int(best), float(logits[best]), int(second), float(logits[second])))
            ids = [int(best)]
        return top

    def judge(self, ids, start):
        self.model.reset()
        self.model.eval(ids[:-1])
        losses, hits = [], []
        for i in range(start, len(ids)):
            logits = self.model.scores[i - 1].astype(np.float64)
            top = logits.max()
            losses.append(logits[ids[i]] - top - math.log(np.exp(logits - top).sum()))
            hits.append(bool(logits.argmax() == ids[i]))
        return losses, hits


def read_json(path):
    return json.loads(path.read_text()) if path.exists() else {}


def save(path, value):
    """One prompt or figure a line: readable, and small in a diff."""
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False)
    path.write_text(collapse(text) + "\n")


def collapse(text):
    """Puts arrays of plain numbers and of pairs of numbers onto one line."""
    out, open_at = [], None
    for line in text.split("\n"):
        if open_at is None and line.rstrip().endswith("["):
            open_at = [line]
        elif open_at is not None:
            s = line.strip()
            if s.endswith("[") and s != "[" or s.startswith(("{", '"')):
                out += open_at + [line]
                open_at = None
            else:
                open_at.append(s)
                if sum(x.endswith("[") for x in open_at) == sum(x.rstrip(",").endswith("]") for x in open_at):
                    out.append("".join(x + " " if x.endswith(",") else x for x in open_at).rstrip())
                    open_at = None
            continue
        else:
            out.append(line)
    return "\n".join(out)


def greedy(a, engine, tokenizer):
    path = HERE / f"{a.name}.json"
    result = read_json(path) or {"model": pathlib.Path(a.model).name, "sha256": sha256(a.model), "made_with": {}, "prompts": []}
    result["made_with"][engine.name] = engine.versions()
    kept = {p["name"]: p for p in result["prompts"]}
    result["prompts"] = []
    for p in json.loads((HERE / "prompts.json").read_text()):
        text = p.get("text") or tokenizer.chat(p["messages"])
        ids = tokenizer.encode(text)
        if hasattr(engine, "tokenize"):
            assert engine.tokenize(text) == ids, f"llama.cpp tokenizes {p['name']} in another way"
        old = {e: kept[p["name"]][e] for e in ("transformers", "llama_cpp") if e in kept.get(p["name"], {})}
        result["prompts"].append({"name": p["name"], "template": "messages" in p, "text": text, "prompt": ids} | old)
    tops = engine.greedy([entry["prompt"] for entry in result["prompts"]])
    for entry, top in zip(result["prompts"], tops):
        entry[engine.name] = {
            "greedy": [t[0] for t in top],
            "second": [t[2] for t in top],
            "logits": [[round(t[1], 4), round(t[3], 4)] for t in top],
            "smallest_gap": round(min(t[1] - t[3] for t in top), 4),
        }
        if "transformers" in entry and "llama_cpp" in entry:
            pairs = list(zip(entry["transformers"]["greedy"], entry["llama_cpp"]["greedy"]))
            entry["llama_cpp"]["alike_until"] = next((i for i, (x, y) in enumerate(pairs) if x != y), STEPS)
        words = tokenizer.hub.decode(entry[engine.name]["greedy"])
        print(f"{entry['name']:12} {len(entry['prompt']):5} tokens, gap {entry[engine.name]['smallest_gap']:.3f}, "
              f"alike until {entry.get('llama_cpp', {}).get('alike_until')}: {words[:120]!r}", flush=True)
    save(path, result)


def perplexity(a, engine, tokenizer):
    for novel in NOVELS:
        ids = tokenizer.encode((pathlib.Path(a.prose) / novel).read_text(encoding="utf-8")[:200_000])[:NOVEL_TOKENS]
        assert len(ids) == NOVEL_TOKENS
        windows = []
        for start in range(0, NOVEL_TOKENS, WINDOW):
            losses, hits = engine.judge(ids[start:start + WINDOW], 1)
            windows.append({"targets": len(losses), "nll": round(-sum(losses), 3), "top1": sum(hits)})
            print(f"{novel} at {start}: {math.exp(windows[-1]['nll'] / windows[-1]['targets']):.4f}", flush=True)
        targets, nll = sum(w["targets"] for w in windows), sum(w["nll"] for w in windows)
        figure = {
            "tokens_sha256": hashlib.sha256(np.array(ids, "<u4").tobytes()).hexdigest(),
            "targets": targets, "nll": round(nll, 3), "perplexity": round(math.exp(nll / targets), 4),
            "top1": sum(w["top1"] for w in windows), "windows": windows,
        }
        record(a, engine, "perplexity", novel, figure)


def lambada(a, engine, tokenizer):
    with open(a.items, encoding="utf-8") as file:
        items = [json.loads(next(file))["text"] for _ in range(a.count)]
    right, nll = [], 0.0
    for i, text in enumerate(items):
        context, word = text.rsplit(" ", 1)
        left, target = tokenizer.encode(context), tokenizer.encode(" " + word)
        losses, hits = engine.judge(left + target, len(left))
        right.append(all(hits))
        nll -= sum(losses)
        if i % 50 == 49:
            print(f"{i + 1}: {sum(right) / len(right):.4f}", flush=True)
    record(a, engine, "lambada", f"first {a.count} items", {
        "accuracy": round(sum(right) / len(right), 4), "right": sum(right), "items": len(right),
        "word_perplexity": round(math.exp(nll / len(right)), 4),
        "right_items": "".join("1" if r else "0" for r in right),
    })


def record(a, engine, task, what, figure):
    quality = read_json(QUALITY)
    model = quality.setdefault(a.name, {"model": pathlib.Path(a.model).name, "sha256": sha256(a.model)})
    model.setdefault("made_with", {})[engine.name] = engine.versions()
    model.setdefault(task, {}).setdefault(what, {})[engine.name] = figure
    save(QUALITY, quality)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("command", choices=["greedy", "perplexity", "lambada"])
    p.add_argument("--folder")
    p.add_argument("--llama-cpp", action="store_true")
    p.add_argument("--prose")
    p.add_argument("--items")
    p.add_argument("--count", type=int, default=ITEMS)
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    a.name = NAMES[pathlib.Path(a.model).name]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    engine = LlamaCpp(a) if a.llama_cpp else Torch(a)
    {"greedy": greedy, "perplexity": perplexity, "lambada": lambada}[a.command](a, engine, Tokenizer(a.model))


if __name__ == "__main__":
    main()
