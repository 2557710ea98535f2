"""llama.cpp through llama-cpp-python's low-level API (the C functions, nothing of Python in the timed loop but the calls).

Modes: `fa=0|1,ubatch=N` (flash attention; n_batch = n_ubatch = N).
"""

import ctypes

import llama_cpp as ll

from measure import arguments, clock, random_tokens, report


def main():
    a = arguments()
    mode = dict(part.split("=") for part in (a.mode or "fa=1,ubatch=512").split(","))
    batch = int(mode["ubatch"])
    ll.llama_log_set(QUIET, ctypes.c_void_p(0))
    ll.llama_backend_init()
    parameters = ll.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = ll.llama_model_load_from_file(a.model.encode(), parameters)
    vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
    c = ll.llama_context_default_params()
    c.n_ctx = max(a.prefill + [d + a.decode for d in a.depth]) + 64
    c.n_batch = c.n_ubatch = batch
    c.n_threads = c.n_threads_batch = a.threads
    c.flash_attn_type = int(mode["fa"])
    context = ll.llama_init_from_model(model, c)
    assert context, "llama.cpp could not make a context"

    def feed(ids, chunk):
        for i in range(0, len(ids), chunk):
            part = ids[i:i + chunk]
            tokens = (ll.llama_token * len(part))(*part)
            status = ll.llama_decode(context, ll.llama_batch_get_one(tokens, len(part)))
            assert status == 0, f"llama_decode returned {status}"
        ll.llama_synchronize(context)

    def forget():
        ll.llama_memory_clear(ll.llama_get_memory(context), True)

    def decode(depth):
        ids = random_tokens(a.decode + 2, vocabulary, a.seed + 1)
        feed(ids[:2], 1)
        report("decode", a.decode, depth, clock(lambda: feed(ids[2:], 1)))

    feed(random_tokens(64, vocabulary, 0), batch)
    depths = set(a.depth)
    for n in sorted(set(a.prefill) | depths):
        forget()
        if n:
            ids = random_tokens(n, vocabulary, a.seed)
            seconds = clock(lambda: feed(ids, batch))
            if n in a.prefill:
                report("prefill", n, 0, seconds)
        if n in depths:
            decode(n)


@ll.llama_log_callback
def QUIET(_level, _text, _data):
    pass


if __name__ == "__main__":
    main()
