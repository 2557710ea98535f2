"""One small byte-level BPE tokenizer for all the tiny models: 3 special tokens, 256 bytes, 61 merges."""

import json

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from families import VOCABULARY

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = [
    "The tree in the meadow has long leaves, and every leaf has a vein that leads to the branch.",
    "In the evening the wind turns the leaves over, and their undersides shine like the sea.",
    "She read the letter twice, then the third time aloud, and there was nothing in it that she had not known.",
    "There are ten thousand rings in the trunk, one for each year, and the thinnest are the years without rain.",
    "fn main() { let leaves = branch.iter().map(|leaf| leaf.len()).sum::<usize>(); }",
    "for i in range(10): print(i, i * i)",
    "Die Blätter fallen, fallen wie von weit; les feuilles tombent, las hojas caen.",
]
SAMPLES = [
    "The leaves of the tree.",
    "  two spaces,\ttab\nline 12345",
    "Größe, naïve, 木の葉, 🌿🍃",
    "<|im_start|>user\nHow long is the leaf?<|im_end|>\n",
    "don't they're I'LL",
    "",
]


def make():
    t = tokenizers.Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False)
    t.train_from_iterator(TEXT, trainer)
    assert t.get_vocab_size() == VOCABULARY
    return t


def config(eos):
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "add_prefix_space": False,
        "bos_token": SPECIAL[0], "eos_token": SPECIAL[eos], "unk_token": SPECIAL[0], "pad_token": SPECIAL[0],
        "added_tokens_decoder": {
            str(i): {"content": s, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                     "special": True} for i, s in enumerate(SPECIAL)},
        "clean_up_tokenization_spaces": False, "model_max_length": 256, "chat_template": TEMPLATE,
    }


def merges(t):
    """The merges as GGUF writes them: `left right`."""
    return [m if isinstance(m, str) else " ".join(m) for m in json.loads(t.to_str())["model"]["merges"]]
