"""Readers of checkpoints: GGUF files and Hugging Face folders, behind one `WeightSource`."""

from .config import ModelConfig
from .open import open_source
from .source import BlockTensor, WeightSource, WeightTensor

__all__ = ["BlockTensor", "ModelConfig", "WeightSource", "WeightTensor", "open_source"]
