#!/usr/bin/env bash
# attune beside llama.cpp's server, vLLM and OpenVINO GenAI on this machine's CPU, in one run.
#
#   benches/peers/run.sh DIR [--repeats 5] [--parts table,alone,larger] [--engines attune,llama] [--quick] [--out OUT]
#
# DIR keeps what is installed (some 8 GB) and the models. OUT gets results.json and table.md after each
# measurement. BIN takes a folder with attune and loadtest in the place of building them. README.md has the rest.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
dir="$(cd "$1" && pwd)"
shift
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
if [ -z "${BIN:-}" ]; then
    (cd "$root" && cargo build --locked --release -p attune --bins && cargo build --locked --release -p loadtest)
    BIN="${CARGO_TARGET_DIR:-$root/target}/release"
fi
BIN="$(cd "$BIN" && pwd)"
"$here/install.sh" "$dir"
exec "$dir/tools/bin/python" "$here/measure.py" "$dir" --bin "$BIN" "$@"
