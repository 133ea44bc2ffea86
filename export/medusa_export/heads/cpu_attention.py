"""Optional C kernel for the decoding attention of distillation on a CPU; absent compiler means torch's own attention.

Measured on the machine of results/2026-11-21-smollm2-135m-cpu-heads (one core): see that folder's README.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("decode_attention.c")


@cache
def load_kernel() -> ctypes.CDLL | None:
    """Compile the kernel once per user and source text; None when there is no compiler or it fails."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or os.environ.get("MEDUSA_PLUS_NO_C_KERNEL"):
        return None
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    cache_root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medusa-plus"
    library = cache_root / f"decode_attention-{digest}.so"
    try:
        if not library.exists():
            cache_root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache_root) as folder:
                built = Path(folder) / "kernel.so"
                flags = [
                    "-O3",
                    "-march=native",
                    "-ffast-math",
                    "-mprefer-vector-width=512",
                    "-shared",
                    "-fPIC",
                ]
                subprocess.run([compiler, *flags, "-o", built, SOURCE, "-lm"], check=True, capture_output=True)
                built.rename(library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError):
        return None


def decode_attention(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor | None:
    """q fp32 [B, Hkv, G, D], keys/values bf16 [B, Hkv, S, D], lengths int64 [B] -> fp32 [B, Hkv, G, D], or None."""
    kernel = load_kernel()
    b, kv_heads, group, dim = q.shape
    if kernel is None or keys.dtype != torch.bfloat16 or not (keys.is_contiguous() and values.is_contiguous()):
        return None
    q, lengths = q.contiguous(), lengths.contiguous()
    out, scratch = torch.empty_like(q), torch.empty(group * keys.shape[2])
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (q, keys, values, lengths, out, scratch)]
    sizes = [ctypes.c_int64(n) for n in (b, kv_heads, group, dim, keys.shape[2])]
    return None if kernel.decode_attention(*pointers, *sizes) else out
