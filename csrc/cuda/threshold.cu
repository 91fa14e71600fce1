// The search for thresholds (../threshold.h) on the GPU: a radix select, digit by digit from the highest one on.
//
// Every pass is two launches: count_digits_kernel counts the next digit of the keys that agree with what is known, and
// find_digit_kernel, one block a region, picks the digit that the wanted rank falls on. Nothing waits for the host.
#include "../threshold.h"

#include "launch.cuh"

namespace rarepixel::cuda {
namespace {

inline constexpr int kDigitBits = 11;
inline constexpr int kDigits = 1 << kDigitBits;

using Count = unsigned long long;

// What is known of a region's threshold.
struct SearchState {
  std::uint64_t prefix;  // the digits found so far
  std::int64_t keep;     // K
  std::int64_t above;    // keys above every key with this prefix
};

// Which bits of a key a pass looks at.
struct Digit {
  int shift, width;

  // Digits from the highest one on; the last one has what is left.
  __host__ __device__ Digit(int key_bits, int pass) {
    const int rest = key_bits - pass * kDigitBits;
    width = rest < kDigitBits ? rest : kDigitBits;
    shift = rest - width;
  }
  __host__ __device__ bool is_first(int key_bits) const { return shift + width == key_bits; }
};

template <bool kWide, class Logit, class Real>
__global__ void __launch_bounds__(kThreads) count_digits_kernel(const __grid_constant__ RegionProblem problem,
                                                                Digit digit, const SearchState* states, Count* bins) {
  __shared__ std::uint32_t local[kDigits];
  for (int i = threadIdx.x; i < kDigits; i += kThreads) local[i] = 0;
  __syncthreads();
  const Chunk chunk(problem.regions);
  const LabelCodes codes(problem.labels, chunk.region);
  const bool first_pass = digit.is_first(kKeyBits<Real>);
  const std::uint64_t prefix = first_pass ? 0 : states[chunk.region].prefix;
  for (std::int64_t at = chunk.begin + threadIdx.x * kOctet; at < chunk.end; at += kTile) {
    const int count = static_cast<int>(min(chunk.end - at, std::int64_t(kOctet)));
    const std::int64_t first = chunk.region * problem.regions.pixels + at;
    const OctetBits<kWide> bits(problem, codes, first, count);
    const std::uint32_t negative = bits.counts & ~bits.positive;
    if (negative == 0) continue;
    Real logits[kOctet];
    load_reals<kWide, Logit>(problem.logits, first, count, logits);
    // Neighbours are often alike: a run of equal digits is one addition.
    std::uint32_t run_digit = 0, run = 0;
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      const Key<Real> key = key_of(logits[i]);
      const Key<Real> upper = key >> digit.shift;
      const bool agrees = first_pass || (upper >> digit.width) == prefix;
      if (((negative >> i) & 1u) == 0 || !agrees) continue;
      const std::uint32_t value = static_cast<std::uint32_t>(upper & ((Key<Real>(1) << digit.width) - 1));
      if (value != run_digit && run > 0) {
        atomicAdd(&local[run_digit], run);
        run = 0;
      }
      run_digit = value;
      ++run;
    }
    if (run > 0) atomicAdd(&local[run_digit], run);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kDigits; i += kThreads) {
    if (local[i] > 0) atomicAdd(&bins[chunk.region * kDigits + i], static_cast<Count>(local[i]));
  }
}

// One block a region. Leaves the bins at 0 for the next pass; after the last one stores the threshold.
template <class Real>
__global__ void __launch_bounds__(kThreads)
    find_digit_kernel(Digit digit, const double* k, bool is_share, SearchState* states, Count* bins, double* found,
                      std::int64_t columns) {
  constexpr int kOfThread = kDigits / kThreads;
  __shared__ Count of_threads[kThreads];
  const std::int64_t region = blockIdx.x;
  Count* const mine = bins + region * kDigits + threadIdx.x * kOfThread;
  Count sum = 0;
#pragma unroll
  for (int i = 0; i < kOfThread; ++i) sum += mine[i];
  of_threads[threadIdx.x] = sum;
  __syncthreads();

  if (threadIdx.x == 0) {
    SearchState state;
    if (digit.is_first(kKeyBits<Real>)) {
      Count negatives = 0;
      for (int t = 0; t < kThreads; ++t) negatives += of_threads[t];
      state = {0, number_to_keep(*k, is_share, static_cast<std::int64_t>(negatives)), 0};
    } else {
      state = states[region];
    }
    Threshold threshold;
    threshold.logit = __builtin_huge_val();
    if (state.keep > 0) {
      // From the largest keys down; the wanted rank is always among those counted.
      int thread = kThreads - 1;
      while (thread > 0 && state.keep > state.above + static_cast<std::int64_t>(of_threads[thread])) {
        state.above += static_cast<std::int64_t>(of_threads[thread--]);
      }
      int bin = (thread + 1) * kOfThread - 1;
      const Count* const counts = bins + region * kDigits;
      while (bin > thread * kOfThread && state.keep > state.above + static_cast<std::int64_t>(counts[bin])) {
        state.above += static_cast<std::int64_t>(counts[bin--]);
      }
      state.prefix = state.prefix << digit.width | static_cast<std::uint64_t>(bin);
      threshold.kept = static_cast<double>(state.keep);
      threshold.above = static_cast<double>(state.above);
      threshold.ties = static_cast<double>(counts[bin]);
      threshold.logit = static_cast<double>(real_of<Real>(static_cast<Key<Real>>(state.prefix)));
    }
    states[region] = state;
    if (digit.shift == 0) threshold.store(found + region * columns);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kOfThread; ++i) mine[i] = 0;
}

}  // namespace

void Engine::find_thresholds(const Inputs& inputs, const Tensor& k,  // [], float64
                             bool is_share, double* found, std::int64_t columns) {
  const Tensor& logits = inputs.logits;
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  RegionProblem problem;
  set_inputs(problem, inputs, plan_regions(logits, inputs.balance, 1));
  const std::int64_t regions = problem.regions.count;
  if (regions == 0) return;
  const cudaStream_t stream = current_stream(logits);
  const Tensor bins = empty_on_device_of(logits, {regions, kDigits}, ScalarType::Long);
  const Tensor states = empty_on_device_of(logits, {regions, sizeof(SearchState) / 8}, ScalarType::Long);
  Count* const counts = static_cast<Count*>(bins.mutable_data_ptr());
  SearchState* const of_regions = static_cast<SearchState*>(states.mutable_data_ptr());
  STD_CUDA_CHECK(cudaMemsetAsync(counts, 0, sizeof(Count) * kDigits * regions, stream));
  const bool wide = lies_in_quads(problem, TensorView{});
  with_types(wide, problem.logits.dtype, [&]<class Wide, class Logit, class Real>(Wide, Logit, Real) {
    const unsigned int blocks = grid_for(problem.regions);
    const double* const wanted = static_cast<const double*>(k.const_data_ptr());
    for (int pass = 0; pass * kDigitBits < kKeyBits<Real>; ++pass) {
      const Digit digit(kKeyBits<Real>, pass);
      if (blocks > 0) {
        count_digits_kernel<Wide::value, Logit, Real>
            <<<blocks, kThreads, 0, stream>>>(problem, digit, of_regions, counts);
        STD_CUDA_KERNEL_LAUNCH_CHECK();
      }
      find_digit_kernel<Real><<<static_cast<unsigned int>(regions), kThreads, 0, stream>>>(
          digit, wanted, is_share, of_regions, counts, found, columns);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    }
  });
}

}  // namespace rarepixel::cuda
