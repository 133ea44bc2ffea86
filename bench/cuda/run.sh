#!/usr/bin/env bash
# Everything that needs a CUDA device, from the bundle that bench/cuda/bundle.ts made.
#
#   ./run.sh [--parts FOLDER] [--work FOLDER] [--results FOLDER] [--cuda-libs FOLDER[:FOLDER...]] [--only STEP[,STEP...]]
#
# Steps, in order: unpack doctor prepare correctness cost wallclock llama. A step that fails is noted in
# results/status.txt; the others still run. --only unpack joins and unpacks the parts and stops.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
parts=$here work=${TMPDIR:-/tmp}/medusa-cuda results=$PWD/results cuda_libs="" steps=unpack,doctor,prepare,correctness,cost,wallclock,llama
while [ $# -gt 0 ]; do
  case $1 in
    --parts) parts=$2 ;; --work) work=$2 ;; --results) results=$2 ;; --cuda-libs) cuda_libs=$2 ;; --only) steps=$2 ;;
    *) echo "error: unknown option $1" >&2; exit 2 ;;
  esac
  shift 2 || { echo "error: an option lacks its value" >&2; exit 2; }
done
archive=medusa-plus-cuda.tar.xz

unpack() {
  if [ -e "$work/.unpacked" ]; then return; fi
  (cd "$parts" && sha256sum --quiet -c SHA256SUMS) || { echo "error: a part in $parts is missing or damaged" >&2; return 1; }
  mkdir -p "$work" &&
    cat "$parts/$archive".[0-9][0-9][0-9] | { if command -v xz >/dev/null; then xz -dc -T0; else python3 -c 'import lzma,shutil,sys; shutil.copyfileobj(lzma.open(sys.stdin.buffer), sys.stdout.buffer, 1 << 20)'; fi; } |
    tar -x -C "$work" && touch "$work/.unpacked"
}

# The CUDA libraries: those given, else those of a CUDA 13 PyTorch (nvidia/*/lib beside it).
find_cuda() {
  [ -n "$cuda_libs" ] || cuda_libs=$(python3 - <<'PY' 2>/dev/null
import pathlib, sys
found = {}
for root in map(pathlib.Path, sys.path):
    for library in list(root.glob("nvidia/*/lib/lib*.so*")) + list(root.glob("nvidia/*/lib/*/lib*.so*")):
        found[str(library.parent)] = None
print(":".join(found))
PY
  )
  export LD_LIBRARY_PATH="$cuda_libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export MEDUSA_ORT_LIBRARY="$work/ort" MEDUSA_PLUS_MODELS="$work/models" PYTHONPATH="$work/program/export:$work/inputs/python"
}

node() { "$work/node/node" "$@"; }
medusa() { node "$work/program/dist/bin/medusa-plus.js" "$@"; }
bench() { local name=$1; shift; node "$work/program/dist/bench/cuda/$name.js" "$@"; }
model=$work/models/smollm2-135m-instruct
llama=$work/models/llama-7b-shaped

doctor() { { nvidia-smi; echo; medusa doctor; } 2>&1 | tee "$results/doctor.txt"; }

prepare() {
  local heads; heads=$(ls "$work"/inputs/*.safetensors 2>/dev/null | head -1)
  export_to "$model" --precision fp16,fp32 --layout both ${heads:+--heads "$heads"} >"$results/prepare.log" 2>&1
}
export_to() { python3 -m medusa_export.prepare --from "$work/inputs/model.gguf" --output "$1" --id smollm2-135m-instruct "${@:2}"; }

# The questions of the bundle, else the built-in ones.
questions() { if [ -e "$work/inputs/question.jsonl" ]; then echo "$work/inputs/question.jsonl"; else echo builtin; fi; }

correctness() { bench correctness --model "$model" --questions "$(questions)" --out "$results"; }

# Bytes per second of a copy within the device, read and written bytes counted.
copy_rate() {
  python3 - >"$results/copyRate.json" <<'PY'
import json, torch
a = torch.empty(2**32, dtype=torch.uint8, device="cuda"); b = torch.empty_like(a)
times = []
for _ in range(12):
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record(); b.copy_(a); end.record(); torch.cuda.synchronize(); times.append(start.elapsed_time(end))
best = sorted(times)[len(times) // 2]
print(json.dumps({"device": torch.cuda.get_device_name(), "bytes_per_second": 2 * a.numel() / best * 1000}))
PY
}

cost() { copy_rate; bench cost --model "$model" --copy-rate "$results/copyRate.json" --out "$results"; }

wallclock() {
  for tree in none static dynamic; do
    medusa bench --provider cuda --precision fp16 --tree "$tree" --questions "$(questions)" \
      --temperature 0 --max-new-tokens 128 --output "$results/bench-$tree" || return 1
  done
}

llama() {
  python3 "$work/program/random_llama.py" --output "$llama" >"$results/llama.log" 2>&1 &&
    bench cost --model "$llama" --copy-rate "$results/copyRate.json" --out "$results"
}

mkdir -p "$results" || exit 1
results=$(cd "$results" && pwd)
failed=0
for step in ${steps//,/ }; do
  case $step in unpack | doctor | prepare | correctness | cost | wallclock | llama) ;; *) echo "error: unknown step $step" >&2; exit 2 ;; esac
  [ "$step" = unpack ] || find_cuda
  echo "== $step"
  begin=$(date +%s)
  if "$step"; then state=ok; else state=FAILED failed=1; fi
  echo "$step $state $(($(date +%s) - begin)) s" | tee -a "$results/status.txt"
  # Nothing works without the bundle.
  if [ "$step $state" = "unpack FAILED" ]; then exit 1; fi
done
exit $failed
