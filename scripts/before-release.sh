#!/usr/bin/env bash
# What a release must pass beside .ci/run, in steps that take long or need more than a compiler:
#
#     scripts/before-release.sh DIR [STEP...]     # ci deny cuda image soak kills overload; all without a STEP
#
# DIR keeps what can be used again: nvcc, the images and their layers, reports. Two cores need about four hours for all.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
mkdir -p "$1"
dir="$(cd "$1" && pwd)"
shift
[ $# -gt 0 ] || set -- ci deny cuda image soak kills overload

ci() { .ci/run; }
# With advisories, whose database comes from the network.
deny() { cargo deny --locked check; }
# Compiled with every kernel, for a GPU that need not be there: docs/gpu.md.
cuda() {
    scripts/cuda-toolchain.sh "$dir/cuda"
    # shellcheck disable=SC1091
    (source "$dir/cuda/env.sh" && cargo check --locked --features cuda --all-targets)
}
image() { scripts/image-without-registry.sh "$dir/image"; }
soak() {
    OUT="$dir/soak-scripted.json" benches/endurance.sh soak scripted --requests 100000
    OUT="$dir/soak-real.json" benches/endurance.sh soak real --requests 5000
}
kills() {
    OUT="$dir/kills-scripted.json" benches/endurance.sh kills scripted --kills 1000
    OUT="$dir/kills-real.json" benches/endurance.sh kills real --kills 50
}
overload() { OUT="$dir/overload.json" benches/endurance.sh overload scripted; }

for step in "$@"; do
    case "$step" in
    ci | deny | cuda | image | soak | kills | overload) ;;
    *) echo "$0: there is no step $step" >&2; exit 2 ;;
    esac
done
for step in "$@"; do
    echo "== $step"
    "$step"
done
