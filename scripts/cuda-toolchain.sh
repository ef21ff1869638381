#!/usr/bin/env bash
# Puts nvcc and the CUDA libraries into one folder, from PyPI, without a system install:
#
#     scripts/cuda-toolchain.sh DIR      # about 1 GB of downloads, 3 GB on disk
#     source DIR/env.sh                  # then: cargo build --release --features cuda
#     scripts/cuda-toolchain.sh DIR nccl # with NCCL, for --features nccl
#
# It needs python3 with pip, and gcc. The driver is not part of it: DIR/shim/libcuda.a stands in for
# libcuda.so when linking. It looks for the machine's own libcuda.so.1 when the program starts, so that
# a CUDA build starts on a machine without a driver, too, and can say what is missing.
set -euo pipefail
[ $# -eq 1 ] || [ "$#${2:-}" = 2nccl ] || { echo "usage: $0 DIR [nccl]" >&2; exit 2; }
mkdir -p "$1"
dir="$(cd "$1" && pwd)"
[ "$(uname -m)" = x86_64 ] || { echo "$0: the shim of the driver is written for x86_64 only" >&2; exit 1; }

# In one call: pip replaces the folder nvidia/ that an earlier one has filled.
nccl=()
[ $# -eq 1 ] || nccl=(nvidia-nccl-cu13==2.30.7)
python3 -I -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$dir" \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-cccl==13.0.85 nvidia-cuda-runtime==13.0.96 nvidia-cuda-nvrtc==13.0.88 \
    nvidia-cublas==13.1.0.3 nvidia-curand==10.4.0.35 "${nccl[@]}"

home="$dir/nvidia/cu13"
if [ ${#nccl[@]} -gt 0 ]; then
    cp "$dir"/nvidia/nccl/lib/libnccl.so.* "$home/lib/"
fi
# Wheels have libcublas.so.13 alone; -lcublas looks for libcublas.so. Some build scripts look into lib64.
for library in "$home"/lib/lib*.so.*; do
    name="$(basename "$library")"
    ln -sfn "$name" "$home/lib/${name%%.so.*}.so"
done
ln -sfn lib "$home/lib64"

# One jump for each name of the driver's interface, through a table that is filled at start.
shim="$dir/shim"
mkdir -p "$shim"
names="$(grep -ohE '\bcu[A-Z][A-Za-z0-9_]*' "$home/include/cuda.h" | sort -u)"
{
    cat <<'C'
#include <dlfcn.h>
#include <stddef.h>
/* CUDA_ERROR_STUB_LIBRARY: what NVIDIA's own stub answers. */
static int missing(void) { return 34; }
C
    echo "$names" | sed 's/.*/__attribute__((visibility("hidden"))) void *attune_shim_&;/'
    echo 'static const struct { const char *name; void **at; } table[] = {'
    echo "$names" | sed 's/.*/    {"&", \&attune_shim_&},/'
    cat <<'C'
};
__attribute__((constructor(101))) static void fill(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        void *found = driver ? dlsym(driver, table[i].name) : NULL;
        *table[i].at = found ? found : (void *)missing;
    }
}
C
    # endbr64: where indirect calls are checked, this is one's landing place.
    echo "$names" | sed 's/.*/__asm__(".text\\n.globl &\\n.type &,@function\\n&: endbr64\\n jmp *attune_shim_&(%rip)\\n");/'
} > "$shim/shim.c"
gcc -O2 -fPIC -c "$shim/shim.c" -o "$shim/shim.o"
rm -f "$shim/libcuda.a"
ar rcs "$shim/libcuda.a" "$shim/shim.o"

cat > "$dir/env.sh" <<SH
export CUDA_HOME="$home"
export CUDA_PATH="\$CUDA_HOME" CUDA_ROOT="\$CUDA_HOME" CUDA_TOOLKIT_ROOT_DIR="\$CUDA_HOME"
export PATH="\$CUDA_HOME/bin:\$PATH"
# 90: H100 and H200. 80: A100. 89: L4, RTX 40. 100: B200. 120: RTX 50.
export CUDA_COMPUTE_CAP="\${CUDA_COMPUTE_CAP:-90}"
export LIBRARY_PATH="$shim:\$CUDA_HOME/lib\${LIBRARY_PATH:+:\$LIBRARY_PATH}"
export LD_LIBRARY_PATH="\$CUDA_HOME/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
SH
cat "$dir/env.sh"
