"""What every engine's worker shares: the points to measure, random token ids, the clock, one JSON line a result."""

import argparse
import json
import random
import time


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True, help="GGUF file (torch: folder converted from it)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--prefill", default="512,2048", help="prompt lengths, tokens")
    p.add_argument("--depth", default="", help="decode speed is measured behind this many tokens")
    p.add_argument("--decode", type=int, default=32, help="tokens generated at each depth")
    p.add_argument("--mode", default="", help="the engine's settings, see its worker")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    a.prefill = [int(n) for n in a.prefill.split(",") if n]
    a.depth = [int(n) for n in a.depth.split(",") if n]
    return a


def random_tokens(n, vocabulary, seed):
    """Ids of ordinary tokens: the lowest ids are special in many vocabularies, so are the highest."""
    rng = random.Random(seed * 1_000_003 + n)
    return [rng.randrange(1000, min(vocabulary, 40_000)) for _ in range(n)]


def clock(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(phase, tokens, depth, seconds):
    print(json.dumps({
        "phase": phase,
        "tokens": tokens,
        "depth": depth,
        "tokens_per_s": round(tokens / seconds, 3),
    }), flush=True)
