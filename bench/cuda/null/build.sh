#!/usr/bin/env bash
# Builds the null device (see cudart.c): libraries with the names that ONNX Runtime's CUDA provider asks for.
#
#   bench/cuda/null/build.sh FOLDER [CUDA_INCLUDE]
#
# Needs a C compiler and the headers of CUDA 13's runtime (CUDA_INCLUDE; /usr/local/cuda/include, or nvidia/cu13/include
# of the PyPI package nvidia-cuda-runtime).
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 FOLDER [CUDA_INCLUDE]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd) include=${2:-/usr/local/cuda/include}
[ -e "$include/cuda_runtime_api.h" ] || { echo "error: no cuda_runtime_api.h in $include" >&2; exit 1; }
mkdir -p "$1" && cd "$1"

# $1 library with its number, which names the version of its symbols too; the rest for the compiler.
library() {
  local name=$1; shift
  echo "$name { global: *; };" >"$name.map"
  ${CC:-cc} -std=gnu11 -O2 -shared -fPIC -Wall -Wno-unused-parameter -Wl,-soname,"$name" -Wl,--version-script,"$name.map" -o "$name" "$@"
  rm "$name.map"
}
library libcudart.so.13 -I"$include" "$here/cudart.c" -lpthread
library libcublas.so.13 "$here/cublas.c" ./libcudart.so.13
library libcublasLt.so.13 -DLT "$here/cublas.c" ./libcudart.so.13
echo 'int null_curand;' | library libcurand.so.10 -x c -
# The driver: the provider takes one function from it, for kernels that are not used here.
echo 'int cuTensorMapEncodeTiled(void) { return 1; }' | library libcuda.so.1 -x c -
