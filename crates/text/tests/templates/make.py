"""Prompts by transformers, for every chat template that the PyPI source package llama-cpp-python carries.

    python make.py FOLDER > expected.json

FOLDER holds the package's `vendor/llama.cpp/models/templates/*.jinja`. Of the four families that the tests name, the
prompts themselves are kept; of all others a hash (64-bit FNV-1a), or null where the template refuses. Made with
transformers 5.23.0 and Jinja2 3.1.6; the clock stands at 2026-11-23 12:34:56.
"""

import datetime
import json
import pathlib
import sys

from transformers.utils import chat_template_utils


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, 23, 12, 34, 56, tzinfo=tz)


chat_template_utils.datetime = Clock

WHOLE = ["Qwen-Qwen2.5-7B-Instruct", "meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct",
         "mistralai-Mistral-Nemo-Instruct-2407"]

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a place, <now> & \"here\".",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "A town, e.g. Zürich"},
                "days": {"type": "integer", "enum": [1, 3], "default": 1},
                "ratio": {"type": "number", "minimum": 0.5},
            },
            "required": ["place"],
        },
    },
}

SYSTEM = {"role": "system", "content": "  Answer briefly.\n"}
USER = {"role": "user", "content": "What's <b>bold</b> & \"quoted\"? 你好 🌿 "}
ASSISTANT = {"role": "assistant", "content": "It's markup.\n\nNothing more."}
AGAIN = {"role": "user", "content": "Line one\nline two"}
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "call00001", "type": "function",
     "function": {"name": "weather", "arguments": {"place": "Zürich", "days": 3}}}]}
RESULT = {"role": "tool", "content": "{\"sky\": \"grey\"}", "tool_call_id": "call00001", "name": "weather"}

CASES = [
    {"name": "question", "messages": [USER], "tools": [], "add_generation_prompt": True},
    {"name": "question, closed", "messages": [USER], "tools": [], "add_generation_prompt": False},
    {"name": "system", "messages": [SYSTEM, USER], "tools": [], "add_generation_prompt": True},
    {"name": "dialogue", "messages": [SYSTEM, USER, ASSISTANT, AGAIN], "tools": [], "add_generation_prompt": True},
    {"name": "dialogue, closed", "messages": [USER, ASSISTANT], "tools": [], "add_generation_prompt": False},
    {"name": "tools", "messages": [SYSTEM, AGAIN], "tools": [WEATHER], "add_generation_prompt": True},
    {"name": "tool call", "messages": [AGAIN, CALL, RESULT], "tools": [WEATHER], "add_generation_prompt": True},
    {"name": "two users", "messages": [USER, AGAIN], "tools": [], "add_generation_prompt": True},
]


def fnv(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def render(source, case):
    try:
        prompts, _ = chat_template_utils.render_jinja_template(
            [case["messages"]], chat_template=source, tools=case["tools"] or None,
            add_generation_prompt=case["add_generation_prompt"], bos_token="<BOS>", eos_token="<EOS>")
        return prompts[0]
    except Exception as error:
        print(f"{case['name']}: {type(error).__name__}: {error}", file=sys.stderr)
        return None


prompts = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jinja")):
    print(path.stem, file=sys.stderr)
    source = path.read_text()
    results = [render(source, case) for case in CASES]
    whole = path.stem in WHOLE
    prompts[path.stem] = [text if whole or text is None else fnv(text) for text in results]
print(json.dumps({"whole": WHOLE, "cases": CASES, "prompts": prompts}, indent=1, ensure_ascii=False))
