#!/usr/bin/env bash
# Everything that needs a CUDA device, from the bundle that bench/cuda/bundle.ts made.
#
#   ./run.sh [--parts FOLDER] [--work FOLDER] [--results FOLDER] [--out FOLDER] [--seconds N] [--limit STAGE=SECONDS]
#            [--cuda-libs FOLDER[:FOLDER...]] [STAGE...]
#
# Stages run in the order given (all of them, in the order below, when none is). Each has a time limit of its own; one
# that fails or runs out of time is noted in results/status.txt, and the next one runs. --seconds bounds the whole call:
# limits shrink to what is left, and stages that have no time left are skipped. After each stage the results so far are
# packed into --out (default $OUT, if set), so that a killed call loses its last stage only.
set -uo pipefail

# Stage and its limit in seconds.
stages="unpack=150 doctor=40 prepare=120 correctness=240 cost-default=90 make-7b=180 cost-7b=150 memory=90 graphs=120 attention24=180 wallclock=240"

self=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/$(basename "${BASH_SOURCE[0]}")
parts=$(dirname "$self") work=${TMPDIR:-/tmp}/medusa-cuda results="" out=${OUT:-} seconds="" cuda_libs="" inside=""
wanted=() limits=()

die() { echo "error: $1" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --parts | --work | --results | --out | --seconds | --limit | --cuda-libs | --inside)
      [ $# -ge 2 ] || die "$1 lacks its value"
      case $1 in
        --parts) parts=$2 ;; --work) work=$2 ;; --results) results=$2 ;; --out) out=$2 ;; --seconds) seconds=$2 ;;
        --limit) limits+=("$2") ;; --cuda-libs) cuda_libs=$2 ;; --inside) inside=$2 ;;
      esac
      shift 2 ;;
    -*) die "unknown option $1" ;;
    *) wanted+=("$1"); shift ;;
  esac
done
results=${results:-$work/results}
archive=medusa-plus-cuda.tar.xz

# Seconds of a stage: the last --limit for it, else its own. Fails for an unknown stage.
limit_of() {
  local pair found=""
  for pair in $stages ${limits[@]+"${limits[@]}"}; do
    if [ "${pair%%=*}" = "$1" ]; then found=${pair#*=}; fi
  done
  [ -n "$found" ] && echo "$found"
}
names=$(for pair in $stages; do printf '%s ' "${pair%%=*}"; done)
for stage in ${wanted[@]+"${wanted[@]}"} ${limits[@]+"${limits[@]%%=*}"}; do
  case " $names" in *" $stage "*) ;; *) die "unknown stage $stage; there are: ${names% }" ;; esac
done
for number in ${limits[@]+"${limits[@]#*=}"} ${seconds:+"$seconds"}; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || die "expected a number of seconds from 1, not $number"
done

# --- stages: each runs in a process of its own, see run_stage -----------------------------------------------------------

model=$work/models/smollm2-135m-instruct
llama=$work/models/llama-7b-shaped
node() { "$work/node/node" "$@"; }
medusa() { node "$work/program/dist/bin/medusa-plus.js" "$@"; }
bench() { local name=$1; shift; node "$work/program/dist/bench/cuda/$name.js" "$@"; }
# One line, the reason a stage cannot begin.
need() { [ -e "$1" ] || { echo "error: $1 is missing: run the stage $2 first" >&2; exit 1; }; }

stage_unpack() {
  if [ -e "$work/.unpacked" ]; then return; fi
  (cd "$parts" && sha256sum --quiet -c SHA256SUMS) >/dev/null 2>&1 || { echo "error: a part in $parts is missing or damaged" >&2; return 1; }
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

# The findings, whatever they are: a GPU that is missing is the finding.
stage_doctor() {
  { nvidia-smi || echo "nvidia-smi: not found or no device"; echo; medusa doctor; } >"$results/doctor.txt" 2>&1
  local state=$?
  cat "$results/doctor.txt"
  # CUDA must be found whole, whatever else is.
  grep -q '^ok  *CUDA ' "$results/doctor.txt" && grep -q '^ok  *GPU ' "$results/doctor.txt" ||
    { echo "error: no working CUDA device or library here (doctor's exit code $state)" >&2; return 1; }
}

# The heads of the bundle; their conditional joint, which prepare finds by itself, lies beside them.
heads_file() { ls "$work"/inputs/*.safetensors 2>/dev/null | grep -vE '\.(conditional|adapter)\.safetensors$' | head -n 1; }

stage_prepare() {
  local heads; heads=$(heads_file)
  if [ -e "$model/manifest.json" ]; then return; fi
  python3 -m medusa_export.prepare --from "$work/inputs/model.gguf" --output "$model" --id smollm2-135m-instruct \
    --precision fp16,fp32 --layout both --capacity 4608 ${heads:+--heads "$heads"} >"$results/prepare.log" 2>&1 ||
    { echo "error: $(tail -n 1 "$results/prepare.log")" >&2; return 1; }
}

# The questions of the bundle, else the built-in ones.
questions() { if [ -e "$work/inputs/question.jsonl" ]; then echo "$work/inputs/question.jsonl"; else echo builtin; fi; }

stage_correctness() {
  need "$model/manifest.json" prepare
  bench correctness --model "$model" --questions "$(questions)" --out "$results"
}

# Bytes per second of a copy within the device, read and written bytes counted. Without PyTorch: no such file, and the
# report says "not measured".
copy_rate() {
  if [ -e "$results/copyRate.json" ]; then return; fi
  python3 - >"$results/copyRate.tmp" 2>"$results/copyRate.log" <<'PY' && mv "$results/copyRate.tmp" "$results/copyRate.json"
import json, torch
a = torch.empty(2**32, dtype=torch.uint8, device="cuda"); b = torch.empty_like(a)
times = []
for _ in range(12):
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record(); b.copy_(a); end.record(); torch.cuda.synchronize(); times.append(start.elapsed_time(end))
median = sorted(times)[len(times) // 2]
print(json.dumps({"device": torch.cuda.get_device_name(), "bytes_per_second": 2 * a.numel() / median * 1000}))
PY
  rm -f "$results/copyRate.tmp"
}
cost() {
  copy_rate
  local rate=(); if [ -e "$results/copyRate.json" ]; then rate=(--copy-rate "$results/copyRate.json"); fi
  bench cost --model "$1" ${rate[@]+"${rate[@]}"} --out "$results"
}
stage_cost-default() { need "$model/manifest.json" prepare; cost "$model"; }

stage_make-7b() {
  if [ -e "$llama/manifest.json" ]; then return; fi
  python3 "$work/program/export/random_llama.py" --output "$llama" >"$results/make-7b.log" 2>&1 ||
    { echo "error: $(tail -n 1 "$results/make-7b.log")" >&2; return 1; }
}
stage_cost-7b() { need "$llama/manifest.json" make-7b; cost "$llama"; }

# One of the benches on both models where they are there; one is enough.
on_both() {
  need "$model/manifest.json" prepare
  local state=0 folder
  for folder in "$model" "$llama"; do
    if [ -e "$folder/manifest.json" ]; then bench "$1" --model "$folder" --out "$results" || state=1; fi
  done
  return $state
}
stage_memory() { on_both memory; }
stage_graphs() { on_both steps; }

# A single layer first, cheap and telling; then the whole model.
stage_attention24() {
  local pairs=$work/models/pairs layer=$work/models/llama-7b-layer
  [ -e "$layer/manifest.json" ] || python3 "$work/program/export/random_llama.py" --output "$layer" --layers 1 --vocab-size 512 >"$results/attention24.log" 2>&1 ||
    { echo "error: $(tail -n 1 "$results/attention24.log")" >&2; return 1; }
  local folder name state=0
  for folder in "$layer" "$llama"; do
    [ -e "$folder/manifest.json" ] || continue
    name=$(basename "$folder")
    python3 "$work/program/export/attention_variants.py" --model "$folder" --output "$pairs/$name" --capacities 512,1280,4352 >>"$results/attention24.log" 2>&1 ||
      { echo "error: $(tail -n 1 "$results/attention24.log")" >&2; state=1; continue; }
    mkdir -p "$results/attention-$name"
    bench attention --pairs "$pairs/$name" --out "$results/attention-$name" || state=1
  done
  return $state
}

stage_wallclock() {
  need "$model/manifest.json" prepare
  medusa compare --model "$model" --provider cuda --precision fp16 --questions "$(questions)" --temperature 0 \
    --max-new-tokens 128 --limit 40 --output "$results/compare"
}

if [ -n "$inside" ]; then
  if [ "$inside" != unpack ]; then
    need "$work/.unpacked" unpack
    find_cuda
  fi
  "stage_$inside"
  exit $?
fi

# --- the loop -----------------------------------------------------------------------------------------------------------

# Few files, so that a runner which brings back only some keeps all: the folder, its status, its Markdown.
pack() {
  [ -n "$out" ] || return 0
  mkdir -p "$out" && cp "$results/status.txt" "$out/status.txt" &&
    tar -cz -f "$out/results.tar.gz.new" -C "$results" . && mv "$out/results.tar.gz.new" "$out/results.tar.gz"
  cat "$results"/*.md >"$out/report.md" 2>/dev/null || rm -f "$out/report.md"
}

# $1 stage, $2 seconds: ok, FAILED or TIMED OUT.
run_stage() {
  timeout --kill-after=5 "$2" bash "$self" --inside "$1" --parts "$parts" --work "$work" --results "$results" --cuda-libs "$cuda_libs"
  case $? in 0) state=ok ;; 124 | 137) state="TIMED OUT" ;; *) state=FAILED ;; esac
}

mkdir -p "$work" "$results" || exit 1
results=$(cd "$results" && pwd) work=$(cd "$work" && pwd)
[ ${#wanted[@]} -gt 0 ] || read -r -a wanted <<<"$names"
failed=0
for stage in "${wanted[@]}"; do
  budget=$(limit_of "$stage")
  if [ -n "$seconds" ]; then
    # A few seconds are kept for packing.
    left=$((seconds - SECONDS - 3))
    if [ "$left" -lt "$budget" ]; then budget=$left; fi
  fi
  echo "== $stage"
  begin=$SECONDS
  if [ "$budget" -lt 1 ]; then state="skipped: no time left"; else run_stage "$stage" "$budget"; fi
  [ "$state" = ok ] || failed=1
  echo "$stage $state $((SECONDS - begin)) s" | tee -a "$results/status.txt"
  pack
  # Nothing works without the bundle.
  if [ "$stage" = unpack ] && [ "$state" != ok ]; then exit 1; fi
done
exit $failed
