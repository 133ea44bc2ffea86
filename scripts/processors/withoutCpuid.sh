#!/usr/bin/env bash
# Copies a library for x86-64, with an instruction that no processor knows (06 a2) in place of each cpuid (0f a2):
#
#   scripts/processors/withoutCpuid.sh LIBRARY COPY
#
# The copy runs where LD_PRELOAD names a library that answers in the place of cpuid: hideAvx512.c, which run.sh compiles.
# Needs objdump (Debian: binutils). It disassembles, as the same two bytes also stand within other instructions.
set -euo pipefail
library=${1:?"usage: scripts/processors/withoutCpuid.sh LIBRARY COPY"}
copy=${2:?"usage: scripts/processors/withoutCpuid.sh LIBRARY COPY"}

command -v objdump >/dev/null || {
  echo 'scripts/processors/withoutCpuid.sh: objdump is missing (Debian: binutils)' >&2
  exit 2
}
# Where .text is loaded and where it lies in the file; addresses of the cpuid instructions.
read -r loaded offset < <(objdump -h -j .text "$library" | awk '$2 == ".text" { print $4, $6 }')
addresses=$(objdump -d -j .text --no-show-raw-insn "$library" | awk '$2 == "cpuid" { sub(":", "", $1); print $1 }')
[ -n "$addresses" ] || {
  echo "scripts/processors/withoutCpuid.sh: no cpuid in $library" >&2
  exit 1
}
mkdir -p "$(dirname "$copy")"
cp --remove-destination "$library" "$copy.new"
chmod u+w "$copy.new"
for address in $addresses; do
  at=$((16#$address - 16#$loaded + 16#$offset))
  [ "$(od -An -tx1 -j $at -N 2 "$copy.new")" = ' 0f a2' ] || {
    echo "scripts/processors/withoutCpuid.sh: no cpuid at byte $at of $library" >&2
    exit 1
  }
  printf '\x06' | dd of="$copy.new" bs=1 seek=$at conv=notrunc status=none
done
mv "$copy.new" "$copy"
