#!/usr/bin/env python3
"""Makes the tiny encoders `bert` and `roberta` and what transformers computes with them, `encoders/NAME.json`.

    /tmp/venv/bin/python testdata/models/encoders.py            write everything again (the venv of make.py)
    /tmp/venv/bin/python testdata/models/encoders.py --check    compare instead: files byte for byte, numbers to 1e-5

Seeds are fixed; the last bits of the expected numbers depend on the CPU. README.md says what the files hold.
"""

import base64
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import safetensors.torch
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from tokenizer import TEXT

HERE = pathlib.Path(__file__).resolve().parent
VOCABULARY = 320
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Sequence lengths: a single token, less and more than a block of keys and values.
LENGTHS = [1, 7, 33, 150]
SENTENCES = ["Every leaf has a vein.", "The wind turns the leaves over, and rain falls."]

BERT = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 160,
    "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0, "position_embedding_type": "absolute",
    "vocab_size": VOCABULARY, "torch_dtype": "float32",
}
ROBERTA = BERT | {
    "architectures": ["RobertaModel"], "model_type": "roberta", "pad_token_id": 1, "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}


def weights(config, seed, prefix):
    """Random f32 tensors, scaled so that attention is neither flat nor one-hot, biases of keys included."""
    rng = np.random.default_rng(seed)
    wide, inner = config["hidden_size"], config["intermediate_size"]
    tensors = {}

    def draw(name, shape, scale, mean=0.0):
        tensors[prefix + name] = torch.from_numpy((mean + scale * rng.standard_normal(shape)).astype(np.float32))

    def linear(name, rows, columns, gain=1.0):
        draw(f"{name}.weight", (rows, columns), gain / columns**0.5)
        draw(f"{name}.bias", rows, 0.3)

    def norm(name):
        draw(f"{name}.weight", wide, 0.2, 1.0)
        draw(f"{name}.bias", wide, 0.2)

    draw("embeddings.word_embeddings.weight", (config["vocab_size"], wide), 0.5)
    draw("embeddings.position_embeddings.weight", (config["max_position_embeddings"], wide), 0.3)
    draw("embeddings.token_type_embeddings.weight", (config["type_vocab_size"], wide), 0.3)
    norm("embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}"
        for part in ("query", "key"):
            linear(f"{at}.attention.self.{part}", wide, wide, 1.5)
        linear(f"{at}.attention.self.value", wide, wide)
        linear(f"{at}.attention.output.dense", wide, wide)
        norm(f"{at}.attention.output.LayerNorm")
        linear(f"{at}.intermediate.dense", inner, wide, 1.5)
        linear(f"{at}.output.dense", wide, inner)
        norm(f"{at}.output.LayerNorm")
    return tensors


def wordpiece():
    """The words of a few sentences and the letters that spell all others."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    signs = [chr(c) for c in range(33, 127) if not chr(c).isalnum()] + list("0123456789")
    words = sorted({w for line in TEXT for w in line.lower().split() if w.isalpha() and w.isascii() and len(w) > 1})
    vocabulary = SPECIAL + signs + letters + ["##" + c for c in letters + list("0123456789")] + words
    vocabulary += [f"[unused{i}]" for i in range(VOCABULARY - len(vocabulary))]
    assert len(vocabulary) == VOCABULARY == len(set(vocabulary))
    t = tokenizers.Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.add_special_tokens(SPECIAL)
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    # As published sentence encoders have it; a reader has to leave both out.
    t.enable_truncation(16)
    t.enable_padding(length=16)
    return t


@torch.inference_mode()
def golden(name, folder, words):
    model = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager").eval()
    rng = np.random.default_rng(7)
    sequences = [[int(i) for i in rng.integers(len(SPECIAL), VOCABULARY, n)] for n in LENGTHS]
    out = [model(torch.tensor([s])).last_hidden_state[0].numpy() for s in sequences]
    words.no_truncation()
    words.no_padding()
    ids = [words.encode(s).ids for s in SENTENCES]
    means = [model(torch.tensor([s])).last_hidden_state[0].mean(0).numpy() for s in ids]
    vectors = [m / np.linalg.norm(m) for m in means]
    encode = lambda arrays: base64.b64encode(np.concatenate([a.ravel() for a in arrays]).astype("<f4").tobytes()).decode()
    return {"model": name, "sequences": sequences, "hidden": BERT["hidden_size"], "hidden_f32_base64": encode(out),
            "sentences": SENTENCES, "ids": ids, "vectors_f32_base64": encode(vectors)}


def make(root):
    (root / "encoders").mkdir(parents=True)
    # The second has the names of a checkpoint with a head of its own.
    for name, config, seed, prefix in (("bert", BERT, 11, ""), ("roberta", ROBERTA, 12, "roberta.")):
        folder = root / name
        (folder / "1_Pooling").mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({
            "word_embedding_dimension": config["hidden_size"], "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True}, indent=2) + "\n")
        (folder / "tokenizer_config.json").write_text(json.dumps({
            "tokenizer_class": "BertTokenizer", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]",
            "pad_token": "[PAD]", "mask_token": "[MASK]"}, indent=2) + "\n")
        words = wordpiece()
        words.save(str(folder / "tokenizer.json"))
        tensors = weights(config, seed, prefix)
        safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        result = golden(name, folder, words)
        (root / "encoders" / f"{name}.json").write_text(json.dumps(result) + "\n")


def numbers(file):
    parsed = json.loads(file.read_text())
    far = [np.frombuffer(base64.b64decode(parsed.pop(k)), "<f4") for k in ("hidden_f32_base64", "vectors_f32_base64")]
    return parsed, np.concatenate(far)


def compare(fresh):
    bad = 0
    for file in sorted(p for p in fresh.rglob("*") if p.is_file()):
        committed = HERE / file.relative_to(fresh)
        same = committed.exists() and committed.read_bytes() == file.read_bytes()
        if not same and committed.exists() and file.parent.name == "encoders":
            (a, x), (b, y) = numbers(committed), numbers(file)
            same = a == b and np.abs(x - y).max() < 1e-5
        if not same:
            print(f"differs: {committed}")
            bad += 1
    print("the same" if bad == 0 else f"{bad} files differ")
    return bad


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        fresh = pathlib.Path(folder) / "models"
        make(fresh)
        if "--check" in sys.argv:
            sys.exit(min(compare(fresh), 1))
        for made in fresh.iterdir():
            shutil.rmtree(HERE / made.name, ignore_errors=True)
            shutil.copytree(made, HERE / made.name)


if __name__ == "__main__":
    main()
