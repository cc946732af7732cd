#!/usr/bin/env bash
# What each release profile costs and gives: the table of docs/adr/0015. Takes the better part of an
# hour on two cores that have nothing else to do.
#
# Seconds are those of all processors together, so that a busy machine changes them little.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export CARGO_INCREMENTAL=0

# measure OPT_LEVEL LTO PANIC
measure() {
  local name="measured-$1-$2-$3" level=$1
  [[ $level =~ ^[0-9]$ ]] || level="\"$level\""
  /usr/bin/time --format '%U %S' --output "target/$name.time" \
    cargo build --quiet --locked --package message-contact-operator --bin message-contact-operator \
    --profile "$name" \
    --config "profile.$name.inherits='release'" --config "profile.$name.opt-level=$level" \
    --config "profile.$name.lto='$2'" --config "profile.$name.panic='$3'"
  local program="target/$name/message-contact-operator"
  printf '| %s | %s | %s | %.0f s | %.1f MB | %.1f MB |\n' "$1" "$2" "$3" \
    "$(awk '{ print $1 + $2 }' "target/$name.time")" \
    "$(awk "BEGIN { print $(stat --format %s "$program") / 1000000 }")" \
    "$(awk "BEGIN { print $(gzip --stdout "$program" | wc --bytes) / 1000000 }")"
  rm -rf "target/$name" "target/$name.time"
}

echo '| opt-level | lto | panic | build, CPU | binary | compressed |'
echo '| --- | --- | --- | --- | --- | --- |'
if [ $# -gt 0 ]; then
  measure "$@"
  exit
fi
measure 3 thin unwind
measure 3 fat unwind
measure s thin unwind
measure s fat unwind
measure z fat unwind
measure 3 fat abort
