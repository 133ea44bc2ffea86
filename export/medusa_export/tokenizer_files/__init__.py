"""tokenizer.json and tokenizer_config.json: built from a GGUF's tables, or copied from a Hugging Face folder."""

from .write import read_tokenizer, write_tokenizer

__all__ = ["read_tokenizer", "write_tokenizer"]
