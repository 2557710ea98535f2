"""PIQA, HellaSwag, LAMBADA and GSM8K in transformers (f32), beside the rows of `longleaf eval lm --out ROWS`.

Usage: python lm_reference.py FOLDER FILE.gguf DATA ROWS [TASK …]   (torch, transformers, gguf from PyPI)
FOLDER holds the model dequantised to f32 (`bench/peers/convert_torch.py FILE.gguf FOLDER`), DATA the folder lm_sanity. Each
item that has a row is answered from the same prompt and scored by the same rule; prints both shares and the items that differ.
"""
import collections
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, DynamicCache

sys.path.append(str(pathlib.Path(__file__).parents[2] / "testdata/golden"))
from make import Tokenizer

SHOTS, ANSWER, TOGETHER = 5, 256, 25
folder, file, data, rows = sys.argv[1:5]
data = pathlib.Path(data) / "lm_sanity"
torch.set_num_threads(2)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = Tokenizer(file)
encode = tokenizer.encode
ours = collections.defaultdict(dict)
for row in map(json.loads, open(rows)):
    if "item" in row:
        ours[row["task"]][row["item"]] = row


def lines(name):
    return (data / name).read_text(encoding="utf-8").splitlines()


def piqa():
    for line, label in zip(lines("piqa_valid.jsonl"), lines("piqa_valid_labels.lst")):
        row = json.loads(line)
        yield f"Question: {row['goal'].strip()}\nAnswer:", [row["sol1"].strip(), row["sol2"].strip()], int(label)


def hellaswag():
    all = [line.strip() for line in lines("hellaswag_val_first2000.txt")]
    for at in range(0, len(all), 6):
        yield all[at], all[at + 2 : at + 6], int(all[at + 1])


@torch.inference_mode()
def log_probs(context, endings):
    """For every ending its tokens' log-probabilities and whether each token is the model's first choice."""
    head, tails = encode(context), [encode(" " + ending) for ending in endings]
    longest = max(map(len, tails))
    padded = torch.tensor([head + tail + [0] * (longest - len(tail)) for tail in tails])
    hidden = model.model(padded, use_cache=False).last_hidden_state[:, len(head) - 1 : -1]
    found = []
    for h, tail in zip(hidden, tails):
        logits, tail = model.lm_head(h[: len(tail)]), torch.tensor(tail)
        found.append((logits.log_softmax(-1).gather(1, tail[:, None]).sum().item(), bool((logits.argmax(-1) == tail).all())))
    return found


def report(task, theirs, gap=lambda item: None):
    """Shares of right items; `theirs` is {item: right}."""
    items = sorted(theirs.keys() & ours[task].keys())
    mine = [ours[task][item]["score"] for item in items]
    differ = [(item, gap(item)) for item, score in zip(items, mine) if score != theirs[item]]
    print(f"{task}: longleaf {sum(mine) / len(items):.4f}, transformers {sum(theirs[i] for i in items) / len(items):.4f}, "
          f"n = {len(items)}; items right in one of them only: {differ}", flush=True)


def choices(task, source):
    right, norm, gaps = {}, {}, {}
    for item, (context, endings, label) in enumerate(source()):
        if item not in ours[f"{task} acc"]:
            continue
        sums = [total for total, _ in log_probs(context, endings)]
        norms = [total / len(ending.encode()) for total, ending in zip(sums, endings)]
        right[item], norm[item] = (float(v.index(max(v)) == label) for v in (sums, norms))
        gaps[item] = tuple(round(sorted(v)[-1] - sorted(v)[-2], 4) for v in (sums, norms))
    report(f"{task} acc", right, lambda item: gaps[item][0])
    report(f"{task} acc_norm", norm, lambda item: gaps[item][1])


def lambada():
    right = {}
    for item, line in enumerate(lines("lambada_test.jsonl")):
        if item in ours["lambada acc"]:
            context, word = json.loads(line)["text"].rstrip().rsplit(" ", 1)
            right[item] = float(log_probs(context, [word])[0][1])
    report("lambada acc", right)


def last_value(text):
    """As `Scorer::LastNumber`: the last number as the integer of its hundredths."""
    for part in reversed("".join(c if c in "0123456789.,-" else " " for c in text).split()):
        bare = part.replace(",", "").rstrip(".-")
        at = bare.rfind("-")
        try:
            return round(float(bare[at + 1 :] if at > 0 else bare) * 100)
        except ValueError:
            pass


@torch.inference_mode()
def complete(prompts, stop):
    """Greedy answers of up to ANSWER tokens, each ended by `stop` or the end of text; prompts begin alike, and what they
    have in common is read once. The rest is padded on the left; who has ended leaves the batch."""
    common = next(i for i, ids in enumerate(zip(*prompts)) if len(set(ids)) > 1)
    rests = [ids[common:] for ids in prompts]
    longest = max(map(len, rests))
    cache = DynamicCache(config=model.config)
    model(torch.tensor([prompts[0][:common]]), past_key_values=cache, logits_to_keep=1)
    cache.batch_repeat_interleave(len(prompts))
    pad = torch.tensor([longest - len(rest) for rest in rests])
    ids = torch.tensor([[0] * (longest - len(rest)) + rest for rest in rests])
    mask = torch.cat([torch.ones(len(prompts), common, dtype=torch.long), (torch.arange(longest) >= pad[:, None]).long()], 1)
    positions = (common + torch.arange(longest) - pad[:, None]).clamp(min=0)
    alive, said = list(range(len(prompts))), [[] for _ in prompts]
    end = model.generation_config.eos_token_id
    ends = {model.config.eos_token_id} | set(end if isinstance(end, list) else [end])
    for _ in range(ANSWER):
        logits = model(ids, past_key_values=cache, attention_mask=mask, position_ids=positions, logits_to_keep=1).logits[:, -1]
        best = logits.argmax(-1).tolist()
        keep = []
        for at, (who, token) in enumerate(zip(alive, best)):
            if token not in ends:
                said[who].append(token)
                if stop not in tokenizer.hub.decode(said[who][-8:]):
                    keep.append(at)
        if not keep:
            break
        alive = [alive[at] for at in keep]
        cache.batch_select_indices(torch.tensor(keep))
        ids = torch.tensor([[best[at]] for at in keep])
        mask = torch.cat([mask[keep], torch.ones(len(keep), 1, dtype=torch.long)], 1)
        positions = positions[keep, -1:] + 1
    return [tokenizer.hub.decode(words).split(stop)[0] for words in said]


def gsm8k():
    all = [json.loads(line) for line in lines("gsm8k_test.jsonl")]
    form = lambda row: f"Question: {row['question'].strip()}\nAnswer:"
    examples = "".join(f"{form(row)} {row['answer'].strip()}\n\n" for row in all[-SHOTS:])
    items = sorted(item for item in ours["gsm8k"] if item < len(all) - SHOTS)
    right = {}
    for at in range(0, len(items), TOGETHER):
        some = items[at : at + TOGETHER]
        answers = complete([encode(examples + form(all[item])) for item in some], "Question:")
        for item, answer in zip(some, answers):
            wanted = last_value(all[item]["answer"].rsplit("####", 1)[1])
            right[item] = float(wanted is not None and last_value(answer) == wanted)
    report("gsm8k", right)


tasks = {"piqa": lambda: choices("piqa", piqa), "hellaswag": lambda: choices("hellaswag", hellaswag),
         "lambada": lambada, "gsm8k": gsm8k}
for task in sys.argv[5:] or tasks:
    tasks[task]()
