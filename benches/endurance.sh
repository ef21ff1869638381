#!/usr/bin/env bash
# Does a server stay as it was, lose nothing when it is killed, and stay useful when it is asked for too much?
#
#   benches/endurance.sh soak|kills|overload scripted|real [flags of loadtest, for example --requests 5000]
#
# `scripted` is the scripted model of the tests behind the whole server (examples/scripted_server.rs), `real` is
# SmolLM2 with three versions of random rows and LoRA, which need python3 with numpy. The report goes to
# OUT (a file, if it is set). PROFILE=dev takes what `cargo test` has built; BIN takes a folder of programs.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
what="$1" model="$2"
shift 2
profile="${PROFILE:-release}"
flag=(--profile "$profile")
if [ -z "${BIN:-}" ]; then
    # Apart, as `cargo test` builds them: together they would get other features of what both use.
    cargo build --locked "${flag[@]}" -p attune --bins --examples
    cargo build --locked "${flag[@]}" -p loadtest
    folder="$profile"
    [ "$profile" != dev ] || folder=debug
    BIN="${CARGO_TARGET_DIR:-target}/$folder"
fi
data="$(mktemp -d)"
trap 'rm -rf "$data"' EXIT

# In the place of $PORT loadtest puts a free one.
case "$model" in
scripted)
    server="$BIN/examples/scripted_server --port \$PORT --data-dir $data/attune --no-demo --forget-within 20 --offer 3"
    bundles=scripted-0,scripted-1,scripted-2
    # So slow that the script, and not HTTP, is what a server of ten times the requests runs out of.
    [ "$what" != overload ] || server="$server --health-port \$HEALTH_PORT --step-micros 10000 --row-micros 500"
    ;;
real)
    users="$(seq -s, -f 'soak-%g' 0 63)"
    seed=0
    for name in one two three; do
        seed=$((seed + 1))
        python3 benches/peft_checkpoint.py "$data/$name" 64 10 8 $seed
        "$BIN/attune" adapter import "$data/$name" --name "$name" --n-user-tokens 10 --users "$users" \
            --out "$data/attune/bundles/$name" >/dev/null
    done
    server="$BIN/attune serve --port \$PORT --data-dir $data/attune --no-demo --forget-within 60"
    bundles=one,two,three
    ;;
*)
    echo "$0: $model is neither scripted nor real" >&2
    exit 2
    ;;
esac
export ATTUNE_LOG="${ATTUNE_LOG:-warn}"
flags=(--scenario "loadtest/scenarios/$what.toml" --server "$server" --note "$(uname -sr), $model, $profile")
[ "$what" = overload ] || flags+=(--bundles "$bundles")
[ -z "${OUT:-}" ] || flags+=(--json "$OUT")
"$BIN/loadtest" "$what" "${flags[@]}" "$@"
