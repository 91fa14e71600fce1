// Connected components (../components.h) on the GPU, without a look at the result from the host.
//
// Every set pixel points to an earlier one of its component or to itself, in the memory of the labels: ~p, which is
// less than 0, stands for pixel p of the image or volume, and background is 0 from the beginning. First each tile is
// labelled by itself in shared memory, then tiles are joined by atomic maxima of ~p, after Komura ("GPU-based
// cluster-labeling algorithm without the use of conventional iteration", Computer Physics Communications 2015) and
// Playne and Hawick ("A New Algorithm for Parallel Connected-Component Labelling on GPUs", IEEE TPDS 2018). In whatever
// order that happens, the root of a component ends up as its first pixel. Roots are counted chunk by chunk, which gives
// each its number; they are the first pixels that hold labels, and all others look theirs up. No block waits for
// another.
#include <torch/csrc/stable/library.h>

#include "../components_tensors.h"
#include "launch.cuh"

namespace rarepixel::cuda {
namespace {

inline constexpr int kTileRows = 32;                // of a warp's width
inline constexpr std::int64_t kPixelsOfThread = 8;  // of a chunk
inline constexpr std::int64_t kChunk = kThreads * kPixelsOfThread;

struct LabelProblem {
  Extent extent;
  Connectivity connectivity;
  std::int64_t images = 0;
  const std::uint8_t* pixels = nullptr;  // [images, planes, rows, columns], not 0: set
  std::int32_t* labels = nullptr;        // the same shape
  std::int32_t* roots = nullptr;         // [images, chunks()]: how many there are in a chunk, then in all before it
  std::int64_t* counts = nullptr;        // [images]

  __host__ __device__ std::int64_t tiles_across() const { return (extent.columns + kWarp - 1) / kWarp; }
  __host__ __device__ std::int64_t tiles_down() const { return (extent.rows + kTileRows - 1) / kTileRows; }
  __host__ __device__ std::int64_t chunks() const { return (extent.pixels() + kChunk - 1) / kChunk; }
  __host__ __device__ bool at_corners_of_plane() const { return connectivity != Connectivity::kSides; }
};

// ---- Union-find ----

// Of memory that others write meanwhile: any of its values will do, but it has to be looked at.
__device__ std::int32_t look(const std::int32_t* at) {
#if RAREPIXEL_DEVICE_CODE
  return *static_cast<const volatile std::int32_t*>(at);
#else
  return emulation::volatile_load(at);
#endif
}
__device__ void put(std::int32_t* at, std::int32_t value) {
#if RAREPIXEL_DEVICE_CODE
  *static_cast<volatile std::int32_t*>(at) = value;
#else
  emulation::volatile_store(at, value);
#endif
}

__device__ std::int32_t root_of(const std::int32_t* cells, std::int32_t cell) {
  for (std::int32_t next = ~look(cells + cell); next != cell; next = ~look(cells + cell)) cell = next;
  return cell;
}

// The later of two roots is made to point to the earlier one. If it is no root any more, what it points to now has to
// be united with that.
__device__ void unite(std::int32_t* cells, std::int32_t a, std::int32_t b) {
  while (true) {
    a = root_of(cells, a);
    b = root_of(cells, b);
    if (a == b) return;
    const std::int32_t later = max(a, b), earlier = min(a, b);
    const std::int32_t before = ~atomicMax(cells + later, ~earlier);
    if (before == later) return;
    a = before;
    b = earlier;
  }
}

// ---- Tiles ----

// One block a tile of 32 x 32 pixels of a plane: points pixels to the first of their component within the tile.
__global__ void __launch_bounds__(kThreads) label_tiles_kernel(const __grid_constant__ LabelProblem problem) {
  __shared__ std::int32_t cells[kTileRows * kWarp];
  __shared__ std::uint32_t rows[kTileRows];
  const Extent& extent = problem.extent;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t across = blockIdx.x % problem.tiles_across(), tile = blockIdx.x / problem.tiles_across();
  const std::int64_t down = tile % problem.tiles_down(), plane = tile / problem.tiles_down();  // of all images
  const std::int64_t first_row = down * kTileRows, first_column = across * kWarp, column = first_column + lane;
  const std::int64_t plane_begin = plane * extent.rows * extent.columns;
  for (int r = warp; r < kTileRows; r += kThreads / kWarp) {
    const std::int64_t row = first_row + r;
    const bool inside = row < extent.rows && column < extent.columns;
    const bool set = inside && problem.pixels[plane_begin + row * extent.columns + column] != 0;
    const std::uint32_t word = __ballot_sync(kWholeWarp, set);
    if (lane == 0) rows[r] = word;
    const std::uint32_t unset_before = ~word & ((1u << lane) - 1);
    const int start = kWarp - __clz(static_cast<int>(unset_before));  // of the run, if the pixel is set
    cells[r * kWarp + lane] = ~(r * kWarp + (set ? start : lane));
  }
  __syncthreads();
  for (int r = warp == 0 ? kThreads / kWarp : warp; r < kTileRows; r += kThreads / kWarp) {
    const std::uint32_t upper = rows[r - 1], lower = rows[r];
    const std::uint32_t met =
        meetings<std::uint32_t>({upper, upper << 1}, {lower, lower << 1}, problem.at_corners_of_plane());
    if ((met >> lane & 1) == 0) continue;
    const int below = r * kWarp + lane, above = below - kWarp;
    unite(cells, (lower >> lane & 1) != 0 ? below : below - 1, (upper >> lane & 1) != 0 ? above : above - 1);
  }
  __syncthreads();
  const std::int64_t in_image = plane % extent.planes * extent.rows * extent.columns;
  for (int r = warp; r < kTileRows; r += kThreads / kWarp) {
    const std::int64_t row = first_row + r;
    if (row >= extent.rows || column >= extent.columns) continue;
    const std::int32_t root = root_of(cells, r * kWarp + lane);
    const std::int64_t first = in_image + (first_row + root / kWarp) * extent.columns + first_column + root % kWarp;
    const bool set = (rows[r] >> lane & 1) != 0;
    problem.labels[plane_begin + row * extent.columns + column] = set ? ~static_cast<std::int32_t>(first) : 0;
  }
}

// What one thread looks at: a pixel of an image and the one west of it.
struct Site {
  const LabelProblem& problem;
  const std::uint8_t* pixels;  // of the image
  std::int32_t* labels;
  std::int64_t plane, row, column;

  // Those two pixels, or those so many planes and rows before and behind.
  __device__ std::int64_t number(int planes, int rows) const {
    const Extent& extent = problem.extent;
    return ((plane + planes) * extent.rows + row + rows) * extent.columns + column;
  }
  __device__ PixelsOfRow<std::uint32_t> look_at(std::int64_t number) const {
    return {pixels[number] != 0, column > 0 && pixels[number - 1] != 0};
  }
  __device__ void join(std::int64_t one, std::int64_t other) const {
    unite(labels, static_cast<std::int32_t>(one), static_cast<std::int32_t>(other));
  }

  // Joins what meets here of the site's row and another.
  __device__ void join_row(int planes, int rows, bool at_corners) const {
    if (row + rows < 0 || row + rows >= problem.extent.rows) return;
    const std::int64_t mine = number(0, 0), others = number(planes, rows);
    const PixelsOfRow<std::uint32_t> here = look_at(mine), there = look_at(others);
    if ((meetings(here, there, at_corners) & 1) == 0) return;
    join(here.here != 0 ? mine : mine - 1, there.here != 0 ? others : others - 1);
  }

  // Joins what meets across the border between two tiles west of the pixel, within its row and with the row before.
  __device__ void join_west(bool at_corners) const {
    const std::int64_t mine = number(0, 0);
    const PixelsOfRow<std::uint32_t> here = look_at(mine);
    if (here.here != 0 && here.west != 0) join(mine, mine - 1);
    if (!at_corners || row % kTileRows == 0) return;
    const std::int64_t north = number(0, -1);
    const PixelsOfRow<std::uint32_t> there = look_at(north);
    if (here.here != 0 && there.west != 0) join(mine, north - 1);
    if (here.west != 0 && there.here != 0) join(mine - 1, north);
  }
};

// One thread a pixel: joins what label_tiles_kernel has left apart.
__global__ void __launch_bounds__(kThreads) join_tiles_kernel(const __grid_constant__ LabelProblem problem) {
  const Extent& extent = problem.extent;
  const std::int64_t image = blockIdx.x / problem.chunks(), begin = blockIdx.x % problem.chunks() * kChunk;
  const std::int64_t first = image * extent.pixels();
  for (std::int64_t i = threadIdx.x; i < kChunk; i += kThreads) {
    const std::int64_t pixel = begin + i;
    if (pixel >= extent.pixels()) return;
    const std::int64_t line = pixel / extent.columns;
    const Site site{problem,
                    problem.pixels + first,
                    problem.labels + first,
                    line / extent.rows,
                    line % extent.rows,
                    pixel - line * extent.columns};
    const bool in_plane = problem.at_corners_of_plane();
    if (site.column % kWarp == 0 && site.column > 0) site.join_west(in_plane);
    if (site.row % kTileRows == 0 && site.row > 0) site.join_row(0, -1, in_plane);
    if (site.plane == 0) continue;
    site.join_row(-1, 0, in_plane);
    if (problem.connectivity == Connectivity::kSides) continue;
    const bool at_corners = problem.connectivity == Connectivity::kCorners;
    site.join_row(-1, -1, at_corners);
    site.join_row(-1, 1, at_corners);
  }
}

// ---- Numbers ----

// The pixels of a chunk, of which the threads of a block look at kThreads at a time.
struct ChunkOfImage {
  std::int64_t image, begin;
  std::int32_t* labels;  // of the image

  __device__ explicit ChunkOfImage(const LabelProblem& problem)
      : image(blockIdx.x / problem.chunks()),
        begin(blockIdx.x % problem.chunks() * kChunk),
        labels(problem.labels + image * problem.extent.pixels()) {}

  __device__ bool is_root(const LabelProblem& problem, std::int64_t pixel) const {
    return pixel < problem.extent.pixels() && labels[pixel] == ~static_cast<std::int32_t>(pixel);
  }
};

__global__ void __launch_bounds__(kThreads) count_roots_kernel(const __grid_constant__ LabelProblem problem) {
  const ChunkOfImage chunk(problem);
  int count = 0;
  for (std::int64_t i = threadIdx.x; i < kChunk; i += kThreads) {
    count += __syncthreads_count(chunk.is_root(problem, chunk.begin + i));
  }
  if (threadIdx.x == 0) problem.roots[blockIdx.x] = count;
}

// The sum over the threads before this one, and in `total` over all of the block.
__device__ std::int32_t sum_before(std::int32_t value, std::int32_t& total) {
  __shared__ std::int32_t of_warps[kThreads / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  std::int32_t sum = value;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const std::int32_t other = __shfl_up_sync(kWholeWarp, sum, distance);
    if (lane >= distance) sum += other;
  }
  __syncthreads();  // nobody reads what an earlier call has left
  if (lane == kWarp - 1) of_warps[warp] = sum;
  __syncthreads();
  std::int32_t before = sum - value;
  total = 0;
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) {
    if (w < warp) before += of_warps[w];
    total += of_warps[w];
  }
  return before;
}

// One block an image.
__global__ void __launch_bounds__(kThreads) add_up_roots_kernel(const __grid_constant__ LabelProblem problem) {
  std::int32_t* const roots = problem.roots + blockIdx.x * problem.chunks();
  std::int32_t so_far = 0;
  for (std::int64_t begin = 0; begin < problem.chunks(); begin += kThreads) {
    const std::int64_t chunk = begin + threadIdx.x;
    const bool inside = chunk < problem.chunks();
    std::int32_t total;
    const std::int32_t before = sum_before(inside ? roots[chunk] : 0, total);
    if (inside) roots[chunk] = so_far + before;
    so_far += total;
  }
  if (threadIdx.x == 0) problem.counts[blockIdx.x] = so_far;
}

__global__ void __launch_bounds__(kThreads) number_roots_kernel(const __grid_constant__ LabelProblem problem) {
  const ChunkOfImage chunk(problem);
  std::int32_t so_far = problem.roots[blockIdx.x];
  for (std::int64_t i = threadIdx.x; i < kChunk; i += kThreads) {
    const std::int64_t pixel = chunk.begin + i;
    const bool root = chunk.is_root(problem, pixel);
    std::int32_t total;
    const std::int32_t before = sum_before(root, total);
    if (root) chunk.labels[pixel] = so_far + before + 1;
    so_far += total;
  }
}

// From what a pixel points to, to its label. Others on the way may have theirs by now, which is the same one.
__global__ void __launch_bounds__(kThreads) spread_labels_kernel(const __grid_constant__ LabelProblem problem) {
  const ChunkOfImage chunk(problem);
  for (std::int64_t i = threadIdx.x; i < kChunk; i += kThreads) {
    const std::int64_t pixel = chunk.begin + i;
    if (pixel >= problem.extent.pixels()) return;
    std::int32_t label = look(chunk.labels + pixel);
    if (label >= 0) continue;
    while (label < 0) label = look(chunk.labels + ~label);
    put(chunk.labels + pixel, label);
  }
}

unsigned int blocks_for(std::int64_t blocks, std::int64_t images) {
  STD_TORCH_CHECK(blocks <= 0x7fffffff, "rarepixel: too many images for one launch: ", images);
  return static_cast<unsigned int>(blocks);
}

std::tuple<Tensor, Tensor> components(const Tensor& mask,  // [N, C, *], bool or uint8, contiguous
                                      std::int64_t connectivity) {
  const torch::stable::accelerator::DeviceGuard guard(mask.get_device_index());
  const cudaStream_t stream = current_stream(mask);
  LabelProblem problem{extent_of(mask), connectivity_of(connectivity)};
  const ComponentsResult result(mask);
  problem.images = result.images();
  problem.counts = result.counts();
  if (problem.images == 0) return {result.labels, result.count};
  if (problem.extent.pixels() == 0) {
    STD_CUDA_CHECK(cudaMemsetAsync(problem.counts, 0, sizeof *problem.counts * problem.images, stream));
    return {result.labels, result.count};
  }
  const Tensor roots = empty_on_device_of(mask, {problem.images, problem.chunks()}, ScalarType::Int);
  problem.pixels = static_cast<const std::uint8_t*>(mask.const_data_ptr());
  problem.labels = result.labels_of(0, problem.extent);
  problem.roots = static_cast<std::int32_t*>(roots.mutable_data_ptr());
  const unsigned int tiles = blocks_for(
      problem.images * problem.extent.planes * problem.tiles_down() * problem.tiles_across(), problem.images);
  const unsigned int chunks = blocks_for(problem.images * problem.chunks(), problem.images);
  label_tiles_kernel<<<tiles, kThreads, 0, stream>>>(problem);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  join_tiles_kernel<<<chunks, kThreads, 0, stream>>>(problem);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  count_roots_kernel<<<chunks, kThreads, 0, stream>>>(problem);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  add_up_roots_kernel<<<static_cast<unsigned int>(problem.images), kThreads, 0, stream>>>(problem);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  number_roots_kernel<<<chunks, kThreads, 0, stream>>>(problem);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  spread_labels_kernel<<<chunks, kThreads, 0, stream>>>(problem);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {result.labels, result.count};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CUDA, m) { m.impl("components", TORCH_BOX(&components)); }

}  // namespace rarepixel::cuda
