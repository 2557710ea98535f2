"""Dequantises a GGUF file once into a transformers folder, so that torch's workers neither pay for it in time nor in peak RSS.

    python3 convert_torch.py MODEL.gguf FOLDER
"""

import os
import sys

import torch
import transformers


def main():
    path, folder = sys.argv[1:3]
    transformers.logging.set_verbosity_error()
    where, name = os.path.split(os.path.abspath(path))
    model = transformers.AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    # transformers refuses to save what came from GGUF; the weights are plain f32 by now
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)


if __name__ == "__main__":
    main()
