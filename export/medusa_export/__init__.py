"""Turns a Llama-family checkpoint into the ONNX graphs, tokenizer files and manifest that medusa-plus runs."""

import os

VERSION = "0.1.0"
EXPORTER = f"medusa-plus {VERSION}"
MINIMUM_ORT = "1.29.0"
FORMAT = 1  # of manifest.json and of the graphs' interfaces (docs/formats.md)

# ONNX Runtime reads this when it is loaded; without it, it keeps a device id and sends usage events.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# So does huggingface_hub, which else tells the hub what program runs it.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
