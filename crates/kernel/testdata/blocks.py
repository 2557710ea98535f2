"""Write blocks.bin: stored blocks of every quantised type and the numbers that the `gguf` package reads in them.

    pip install gguf numpy && python blocks.py

Bytes are random but for the half-precision scales, which are ordinary numbers. For each type, little-endian:
its name (8 bytes, padded with zeros), bytes and numbers (two u32), the bytes, the numbers (f32).
"""
import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

# type: (numbers, where the half-precision scales lie in a block)
TYPES = {
    "Q4_0": (96, [0]), "Q4_1": (96, [0, 2]), "Q5_0": (96, [0]), "Q5_1": (96, [0, 2]), "Q8_0": (96, [0]),
    "Q2_K": (768, [80, 82]), "Q3_K": (768, [108]), "Q4_K": (768, [0, 2]), "Q5_K": (768, [0, 2]), "Q6_K": (768, [208]),
}

random = np.random.default_rng(20261123)
with open(pathlib.Path(__file__).with_name("blocks.bin"), "wb") as out:
    for name, (numbers, halves) in TYPES.items():
        kind = GGMLQuantizationType[name]
        length, size = GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (numbers // length, size), dtype=np.uint8)
        for at in halves:
            scales = random.normal(0, 0.02, (len(blocks), 1)).astype(np.float16)
            blocks[:, at:at + 2] = scales.view(np.uint8)
        values = quants.dequantize(blocks, kind).astype("<f4").reshape(-1)
        out.write(name.encode().ljust(8, b"\0") + struct.pack("<II", blocks.size, values.size))
        out.write(blocks.tobytes() + values.tobytes())
