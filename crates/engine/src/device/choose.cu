// A token for each row of logits: what `Wish::choose` gives on the host (sampler.rs), where the logits are.
//
// One block per row; its threads go over the vocabulary together. Nothing is sorted: the logit down to which
// top-k or top-p keeps tokens is searched for among the orders of floats, two bits per pass. Weights are
// integers, so that their sums do not depend on the order of threads.
//
// device_sampler.rs has it compiled when a model is placed on a GPU; tests/device runs it on the CPU, with
// threads.

typedef unsigned int u32;
typedef unsigned long long u64;

#define MOST_THREADS 1024
// 1 for the best token. A float has 24 bits, so nothing much is lost; 2^18 tokens stay below 2^58.
#define UNIT 1099511627776.0f
// Weights of tokens this far below the best one, at temperature 1, round to 0: 40 ln 2.
#define REACH 27.75f

struct Wish {
    float temperature;
    u32 top_k;
    float top_p;
    float min_p;
    double u;
};

// Keeps the tokens whose key is greater than `key`, and the first `ties` of those that have it.
struct Limit {
    u32 key;
    u32 ties;
};

struct Row {
    const float *logits;
    u32 vocab;
    float best;
    float temperature;
};

// A greater float has a greater key; 0 is the key of no number.
__device__ u32 key_of(float x) {
    u32 bits = __float_as_uint(x + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ float logit_of(u32 key) {
    return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

// In units of the best token's.
__device__ float share(const Row &row, float logit) {
    return expf((logit - row.best) / row.temperature);
}

__device__ u64 weight(const Row &row, float logit) {
    return (u64)(share(row, logit) * UNIT);
}

struct Add {
    __device__ u64 operator()(u64 a, u64 b) const { return a + b; }
};

struct Greater {
    __device__ u64 operator()(u64 a, u64 b) const { return a > b ? a : b; }
};

// What all threads' values come to, for all of them.
template <typename Combine> __device__ u64 over_all(Combine combine, u64 value, u64 *shared) {
    shared[threadIdx.x] = value;
    for (u32 n = blockDim.x / 2; n > 0; n /= 2) {
        __syncthreads();
        if (threadIdx.x < n)
            shared[threadIdx.x] = combine(shared[threadIdx.x], shared[threadIdx.x + n]);
    }
    __syncthreads();
    u64 all = shared[0];
    __syncthreads();
    return all;
}

__device__ u64 sum(u64 value, u64 *shared) { return over_all(Add(), value, shared); }

// The sum over the threads before this one.
__device__ u64 sum_before(u64 value, u64 *shared) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (u32 n = 1; n < blockDim.x; n *= 2) {
        u64 other = threadIdx.x >= n ? shared[threadIdx.x - n] : 0;
        __syncthreads();
        shared[threadIdx.x] += other;
        __syncthreads();
    }
    u64 before = shared[threadIdx.x] - value;
    __syncthreads();
    return before;
}

// The sums over the tokens that `from` keeps whose keys are at least those three; a token is 1 where
// `counts`, else its weight.
__device__ void sums_from(const Row &row, bool counts, Limit from, const u64 *keys, u64 *sums, u64 *shared) {
    u64 own[3] = {0, 0, 0};
    for (u32 i = threadIdx.x; i < row.vocab; i += blockDim.x) {
        u32 key = key_of(row.logits[i]);
        if (key <= from.key || key < keys[0])
            continue;
        u64 value = counts ? 1 : weight(row, row.logits[i]);
        for (int j = 0; j < 3; j++)
            own[j] += key >= keys[j] ? value : 0;
    }
    u64 tied = from.ties == 0 ? 0 : from.ties * (counts ? 1 : weight(row, logit_of(from.key)));
    for (int j = 0; j < 3; j++)
        sums[j] = sum(own[j], shared) + (from.key >= keys[j] ? tied : 0);
}

// The limit of the fewest best tokens, among those that `from` keeps, that come up to `wanted`, which all of
// them do.
__device__ Limit reach(const Row &row, bool counts, Limit from, u64 wanted, u64 *shared) {
    // All from `low` on come up to it, all from `high` on do not.
    u64 low = counts ? 0 : key_of(row.best - REACH * row.temperature);
    u64 high = (u64)key_of(row.best) + 1;
    u64 keys[3], sums[3];
    while (high - low > 1) {
        u64 step = (high - low + 3) / 4;
        for (int j = 0; j < 3; j++)
            keys[j] = low + (j + 1) * step < high ? low + (j + 1) * step : high - 1;
        sums_from(row, counts, from, keys, sums, shared);
        u64 new_low = low, new_high = high;
        for (int j = 2; j >= 0; j--) {
            if (sums[j] >= wanted) {
                new_low = keys[j];
                break;
            }
            new_high = keys[j];
        }
        low = new_low;
        high = new_high;
    }
    keys[0] = keys[1] = keys[2] = low + 1;
    sums_from(row, counts, from, keys, sums, shared);
    u64 each = counts ? 1 : weight(row, logit_of((u32)low));
    u64 ties = each == 0 ? 0 : (wanted - sums[0] + each - 1) / each;
    if ((u32)low == from.key && ties > from.ties)
        ties = from.ties;
    Limit limit = {(u32)low, (u32)(ties < 0xffffffffu ? ties : 0xffffffffu)};
    return limit;
}

// The tokens that `limit` and `min_p` keep lie side by side in order of id, each as wide as its weight; the
// thread on whose token `u` of all falls writes it.
__device__ void place(const Row &row, const Wish &wish, Limit limit, float *id, u64 *shared) {
    u32 each = (row.vocab + blockDim.x - 1) / blockDim.x;
    u32 first = threadIdx.x * each < row.vocab ? threadIdx.x * each : row.vocab;
    u32 end = first + each < row.vocab ? first + each : row.vocab;
    u64 ties = 0;
    for (u32 i = first; i < end; i++)
        ties += key_of(row.logits[i]) == limit.key;
    u64 ties_before = sum_before(ties, shared);
    u64 left = ties_before < limit.ties ? limit.ties - ties_before : 0;
    u64 own = 0, before = 0, point = 0;
    // Twice the same: how wide this thread's tokens are, then which of them it is.
    for (int looks = 0; looks < 2; looks++) {
        u64 ties_left = left, at = before;
        for (u32 i = first; i < end; i++) {
            u32 key = key_of(row.logits[i]);
            bool tied = key == limit.key && ties_left > 0;
            ties_left -= tied;
            if (!(tied || key > limit.key) || share(row, row.logits[i]) < wish.min_p)
                continue;
            u64 width = weight(row, row.logits[i]);
            if (looks && at <= point && point < at + width)
                *id = (float)i;
            at += width;
        }
        if (looks)
            return;
        own = at;
        before = sum_before(own, shared);
        u64 all = sum(own, shared);
        point = (u64)(wish.u * (double)all);
        point = point < all ? point : all - 1;
    }
}

// logits: (rows, vocab). wishes: (rows, 5): temperature, top-k, top-p, min-p, u. report: (2, rows): the ids,
// and NaN for a row whose logits are not numbers, or which has no possible token.
extern "C" __global__ void choose(const float *logits, const double *wishes, const u32 vocab, float *report) {
    __shared__ u64 shared[MOST_THREADS];
    const double *numbers = wishes + 5 * (u64)blockIdx.x;
    Wish wish = {(float)numbers[0], (u32)numbers[1], (float)numbers[2], (float)numbers[3], numbers[4]};
    Row row = {logits + (u64)blockIdx.x * vocab, vocab, 0.0f, wish.temperature};
    float *id = report + blockIdx.x, *check = report + gridDim.x + blockIdx.x;

    const float infinity = __uint_as_float(0x7f800000u);
    u64 best = 0, bad = 0;
    for (u32 i = threadIdx.x; i < vocab; i += blockDim.x) {
        float logit = row.logits[i];
        bad += !(logit < infinity);
        // The lowest id among equals.
        u64 candidate = (u64)key_of(logit) << 32 | (0xffffffffu - i);
        best = candidate > best ? candidate : best;
    }
    best = over_all(Greater(), best, shared);
    bad = sum(bad, shared);
    row.best = logit_of((u32)(best >> 32));
    bool none = bad > 0 || row.best == -infinity;
    if (threadIdx.x == 0) {
        *id = none ? 0.0f : (float)(0xffffffffu - (u32)best);
        *check = none ? __uint_as_float(0x7fc00000u) : 0.0f;
    }
    if (none || wish.temperature == 0.0f)
        return;

    Limit limit = {0, 0};
    if (wish.top_k > 0 && wish.top_k < vocab)
        limit = reach(row, true, limit, wish.top_k, shared);
    if (wish.top_p < 1.0f) {
        u64 from_first[3] = {0, 0, 0}, all[3];
        sums_from(row, false, limit, from_first, all, shared);
        u64 wanted = (u64)ceil((double)wish.top_p * (double)all[0]);
        wanted = wanted < 1 ? 1 : wanted > all[0] ? all[0] : wanted;
        limit = reach(row, false, limit, wanted, shared);
    }
    place(row, wish, limit, id, shared);
}
