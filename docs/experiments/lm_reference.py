"""PIQA and HellaSwag by likelihood in transformers, beside the rows of `longleaf eval lm --out ROWS`.

Usage: python lm_reference.py FOLDER FILE.gguf DATA ROWS [ITEMS]   (torch, transformers, gguf from PyPI)
FOLDER holds FILE.gguf, DATA the folder lm_sanity. The same prompts: context, a space, ending; acc by the sum of the
ending's log-probabilities, acc_norm by that sum over the ending's bytes. Prints both shares and the items that differ.
"""
import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, file, data, rows = sys.argv[1:5]
items = int(sys.argv[5]) if len(sys.argv) > 5 else 500
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)


def piqa():
    lines = open(f"{data}/lm_sanity/piqa_valid.jsonl").read().splitlines()
    labels = open(f"{data}/lm_sanity/piqa_valid_labels.lst").read().split()
    for line, label in zip(lines, labels):
        row = json.loads(line)
        yield f"Question: {row['goal'].strip()}\nAnswer:", [row["sol1"].strip(), row["sol2"].strip()], int(label)


def hellaswag():
    lines = [line.strip() for line in open(f"{data}/lm_sanity/hellaswag_val_first2000.txt")]
    for at in range(0, len(lines), 6):
        yield lines[at], lines[at + 2 : at + 6], int(lines[at + 1])


@torch.no_grad()
def log_prob(context, ending):
    head = tokenizer(context, add_special_tokens=False)["input_ids"]
    tail = tokenizer(" " + ending, add_special_tokens=False)["input_ids"]
    logits = model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1]
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(tail)[:, None]).sum().item()


ours = {}
for line in open(rows):
    row = json.loads(line)
    ours[row["task"], row["item"]] = int(row["answer"])
for task, source in (("piqa", piqa), ("hellaswag", hellaswag)):
    right = {"acc": [0, 0], "acc_norm": [0, 0]}
    differ, count = [], 0
    for item, (context, endings, label) in zip(range(items), source()):
        if (f"{task} acc", item) not in ours:
            continue
        sums = [log_prob(context, ending) for ending in endings]
        norms = [total / len(ending.encode()) for total, ending in zip(sums, endings)]
        count += 1
        for score, values in (("acc", sums), ("acc_norm", norms)):
            best = values.index(max(values))
            mine = ours[f"{task} {score}", item]
            right[score][0] += mine == label
            right[score][1] += best == label
            if mine != best:
                differ.append((item, score, sorted(values)[-1] - sorted(values)[-2]))
    for score, (mine, theirs) in right.items():
        if count:
            print(f"{task} {score}: longleaf {mine / count:.4f}, transformers {theirs / count:.4f}, n = {count}")
    print(f"{task}: items that differ, and how near transformers' two best are: {differ}")
