"""OpenVINO GenAI, which reads GGUF itself.

Modes: `PA` or `SDPA` (its two attention back ends), optionally `,kv=u8|f16|bf16|f32` and `,hint=f32|bf16`; the rest
is the library's own default. Prefill is the prompt over the time to the first token, decode the mean time of the
tokens after it, both from the library's own counters.
"""

import numpy
import openvino
import openvino_genai as genai

from measure import arguments, random_tokens, report


def main():
    a = arguments()
    backend, *rest = (a.mode or "PA").split(",")
    properties = {"INFERENCE_NUM_THREADS": a.threads, "ATTENTION_BACKEND": backend}
    names = {"kv": "KV_CACHE_PRECISION", "hint": "INFERENCE_PRECISION_HINT"}
    for part in rest:
        key, value = part.split("=")
        properties[names[key]] = value
    pipeline = genai.LLMPipeline(a.model, "CPU", **properties)
    vocabulary = 40_000

    def generate(n, new):
        ids = openvino.Tensor(numpy.array([random_tokens(n, vocabulary, a.seed)], dtype=numpy.int64))
        config = genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = new
        config.ignore_eos = True
        config.do_sample = False
        config.apply_chat_template = False
        inputs = genai.TokenizedInputs(ids, openvino.Tensor(numpy.ones((1, n), dtype=numpy.int64)))
        return pipeline.generate(inputs, config).perf_metrics

    generate(64, 2)
    depths = set(a.depth)
    for n in sorted(set(a.prefill) | depths):
        # depth 0 is a prompt of 4 tokens here: this library has no empty prompt
        metrics = generate(n or 4, a.decode + 1 if n in depths else 1)
        if n in a.prefill:
            report("prefill", n, 0, metrics.get_ttft().mean / 1000)
        if n in depths:
            report("decode", a.decode, n, a.decode * metrics.get_tpot().mean / 1000)


if __name__ == "__main__":
    main()
