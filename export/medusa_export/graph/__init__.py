"""Builders of the ONNX graphs: backbone (layouts "split" and "shared"), heads, keep. No torch, no tracing."""
