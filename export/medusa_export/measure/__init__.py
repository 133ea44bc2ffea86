"""Runs graphs from Python: for tests and measurements (the program's runtime is in src/runtime). Needs ONNX Runtime."""
