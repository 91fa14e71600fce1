// Skeletons. Segment maps are made on the CPU, once an annotation.
#include <torch/csrc/stable/library.h>

#include "thinning.cuh"

namespace rarepixel::cuda {
namespace {

__global__ void __launch_bounds__(kThreads) unpack_kernel(BitImages images, std::uint8_t* pixels) {
  for_each_word(images, [&](std::int64_t word) {
    const WordOfWarp at(images, word);
    if (at.inside) pixels[at.pixel] = images.bits[word] >> (threadIdx.x % kWarp) & 1;
  });
}

Tensor thin_op(const Tensor& mask) {  // [*, H, W], bool or uint8, contiguous
  const torch::stable::accelerator::DeviceGuard guard(mask.get_device_index());
  const auto sizes = mask.sizes();
  Tensor skeleton = empty_on_device_of(mask, {sizes.begin(), sizes.end()}, ScalarType::Bool);
  const std::int64_t rows = mask.size(mask.dim() - 2), columns = mask.size(mask.dim() - 1);
  if (mask.numel() == 0) return skeleton;
  const cudaStream_t stream = current_stream(mask);
  const BitImagesMemory memory(mask, mask.numel() / (rows * columns), rows, columns, false);
  TensorView pixels;
  pixels.data = const_cast<void*>(mask.const_data_ptr());
  pixels.dtype = DType::kByte;
  pixels.rank = 1;
  pixels.size[0] = mask.numel();
  pixels.stride[0] = 1;
  pack(pixels, memory.images, stream);
  thin(mask, memory.images, stream);
  unpack_kernel<<<blocks_for_words(memory.images), kThreads, 0, stream>>>(
      memory.images, static_cast<std::uint8_t*>(skeleton.mutable_data_ptr()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return skeleton;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CUDA, m) { m.impl("thin", TORCH_BOX(&thin_op)); }

}  // namespace rarepixel::cuda
