"""Turns a Llama-family checkpoint into the ONNX graphs, tokenizer files and manifest that medusa-plus runs."""

VERSION = "0.1.0"
EXPORTER = f"medusa-plus {VERSION}"
MINIMUM_ORT = "1.29.0"
