// Runs a CUDA kernel on the CPU: the threads of a block are threads, blocks come one after the other.
//
// Reads rows, vocabulary and threads as u32, wishes as f64, logits as f32; writes the kernel's report.

#include <barrier>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

struct Index {
    unsigned x;
};
static thread_local Index threadIdx, blockIdx;
static Index blockDim, gridDim;
static std::barrier<> *everybody;

static void __syncthreads() { everybody->arrive_and_wait(); }
static unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
static float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }

#define __device__ inline
#define __global__
#define __shared__ static
#include KERNEL

template <typename T> static std::vector<T> read(size_t n) {
    std::vector<T> values(n);
    if (fread(values.data(), sizeof(T), n, stdin) != n)
        std::exit(2);
    return values;
}

int main() {
    auto sizes = read<uint32_t>(3);
    uint32_t rows = sizes[0], vocab = sizes[1], n_threads = sizes[2];
    auto wishes = read<double>(5 * rows);
    auto logits = read<float>(size_t(rows) * vocab);
    std::vector<float> report(2 * rows, -1.0f);
    std::barrier<> barrier(n_threads);
    everybody = &barrier;
    blockDim = {n_threads};
    gridDim = {rows};
    std::vector<std::thread> threads;
    for (uint32_t t = 0; t < n_threads; t++)
        threads.emplace_back([&, t] {
            threadIdx = {t};
            for (uint32_t row = 0; row < rows; row++) {
                blockIdx = {row};
                choose(logits.data(), wishes.data(), vocab, report.data());
                // Threads that left early wait for the others, whose shared memory is the next block's, too.
                barrier.arrive_and_wait();
            }
        });
    for (auto &thread : threads)
        thread.join();
    return fwrite(report.data(), sizeof(float), report.size(), stdout) == report.size() ? 0 : 2;
}
