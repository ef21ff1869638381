#!/usr/bin/env bash
# Builds the Dockerfile where no image registry can be reached, runs the image, and asks it for an answer:
#
#     apt-get install debootstrap buildah
#     scripts/image-without-registry.sh DIR        # as root; 15 GB and half an hour on two cores
#
# Debian's packages make both base images, the Rust toolchain is this machine's, crates and the model come
# from their package registries. Steps that were done before (bases, build, ask) are skipped as long as DIR has
# them; the build itself reuses the layers in DIR only. Nothing of the machine's docker is touched.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
cd "$(dirname "$0")/.."
mkdir -p "$1"
dir="$(cd "$1" && pwd)"
for tool in debootstrap buildah curl; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is missing: apt-get install $tool" >&2; exit 1; }
done
suite=bookworm
version="$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)"
port="${PORT:-18190}"

# Where a sandbox has no overlay mounts, vfs copies the whole image for each layer: 70 GB then. Isolation `chroot`
# needs no namespaces.
driver=vfs
mkdir -p "$dir"/try/{lower,upper,work,merged}
if mount -t overlay overlay -o "lowerdir=$dir/try/lower,upperdir=$dir/try/upper,workdir=$dir/try/work" "$dir/try/merged" 2>/dev/null
then
    umount "$dir/try/merged"
    driver=overlay
fi
rm -rf "$dir/try"
storage=(--root "$dir/storage-$driver" --runroot "$dir/run-$driver" --storage-driver "$driver")
buildah() { command buildah "${storage[@]}" "$@"; }
timed() { # NAME COMMAND...: the command, and its seconds in DIR/times.txt
    local name="$1" start=$SECONDS
    shift
    "$@"
    echo "$name $((SECONDS - start)) s" | tee -a "$dir/times.txt"
}

rootfs() { # NAME PACKAGES: a Debian in DIR/NAME, with the certificates of this machine
    debootstrap --variant=minbase --include="$2" "$suite" "$dir/$1" >"$dir/$1.log"
    mkdir -p "$dir/$1/usr/local/share/ca-certificates"
    cp -f /usr/local/share/ca-certificates/*.crt "$dir/$1/usr/local/share/ca-certificates/" 2>/dev/null || true
    chroot "$dir/$1" update-ca-certificates >>"$dir/$1.log"
    rm -rf "$dir/$1"/var/cache/apt/archives/*.deb
}

toolchain() { # as the image rust has it
    local sysroot
    sysroot="$(RUSTUP_TOOLCHAIN="$version" rustc --print sysroot)"
    mkdir -p "$dir/build-base/usr/local/rust"
    # Without the documentation, which is most of it.
    tar -C "$sysroot" --exclude=share/doc -cf - . | tar -C "$dir/build-base/usr/local/rust" -xf -
    rm -rf "$dir/build-base/usr/local/cargo" && mkdir -p "$dir/build-base/usr/local/cargo"
}

image() { # NAME CONFIG...: what is in DIR/NAME becomes the image attune-NAME
    local name="$1" container
    shift
    container="$(buildah from scratch)"
    buildah add --quiet "$container" "$dir/$name" / >/dev/null
    buildah config "$@" "$container"
    buildah commit --quiet --rm "$container" "attune-$name" >/dev/null
    rm -rf "${dir:?}/$name"
}

bases() {
    rootfs build-base ca-certificates,gcc,g++,libc6-dev,make
    toolchain
    image build-base --env CARGO_HOME=/usr/local/cargo \
        --env PATH=/usr/local/cargo/bin:/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    rootfs runtime-base ca-certificates
    image runtime-base
}

digest() { buildah inspect --type image --format '{{.FromImageDigest}}' "$1"; }

build() { # pinned, as in a release: the images are named by their digests
    buildah build --isolation chroot --format docker --layers --tag attune \
        --build-arg BUILD_IMAGE="localhost/attune-build-base@$(digest attune-build-base)" \
        --build-arg RUNTIME_IMAGE="localhost/attune-runtime-base@$(digest attune-runtime-base)" \
        . >"$dir/build.log" 2>&1 || { tail -n 40 "$dir/build.log" >&2; return 1; }
}

ask() { # as the head of the Dockerfile says, with a key, for the image listens on all addresses
    local container pid answer key
    container="$(buildah from attune)"
    key="$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')"
    printf '{"keys": [{"name": "check", "sha256": "%s"}]}' "$(printf %s "$key" | sha256sum | cut -d ' ' -f 1)" >"$dir/keys.json"
    chmod 644 "$dir/keys.json"
    # The entry point and the command of the image; `buildah run` takes neither by itself. A job of its own, so
    # that what ends it ends the server below buildah, too.
    set -m
    buildah run --isolation chroot --env ATTUNE_PORT="$port" --env ATTUNE_API_KEYS=/etc/attune/keys.json \
        --volume "$dir/keys.json:/etc/attune/keys.json:ro" "$container" -- attune serve >"$dir/serve.log" 2>&1 &
    pid=$!
    set +m
    trap 'kill -- "-$pid" 2>/dev/null || true' EXIT
    until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/readyz"; do
        kill -0 "$pid" 2>/dev/null || { cat "$dir/serve.log" >&2; return 1; }
        sleep 1
    done
    answer="$(curl --silent --show-error --fail "http://127.0.0.1:$port/v1/chat/completions" \
        -H "authorization: Bearer $key" -H 'content-type: application/json' \
        -d '{"model": "attune", "user": "alice", "max_tokens": 24, "temperature": 0,
             "messages": [{"role": "user", "content": "What is the capital of France?"}]}')"
    printf '%s\n' "$answer" | tee "$dir/answer.json"
    case "$answer" in *'"finish_reason"'*) ;; *) echo "$0: that is no answer" >&2; return 1 ;; esac
    kill -- "-$pid"
    wait "$pid" || true
    trap - EXIT
    buildah rm "$container" >/dev/null
}

exists() { buildah inspect --type image "$1" >/dev/null 2>&1; }

exists attune-build-base && exists attune-runtime-base || timed bases bases
timed build build
timed ask ask
buildah images
