// The torch half of component_tree.h: images in, the steps of their curves out.
#include "component_tree.h"

#include <torch/csrc/stable/library.h>

#include <atomic>
#include <limits>
#include <tuple>

#include "../tensors.h"

namespace rarepixel::cpu {
namespace {

template <class T>
const T* data_of(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

void check(const Tensor& tensor, const char* name, ScalarType dtype, std::int64_t numbers) {
  STD_TORCH_CHECK(tensor.scalar_type() == dtype && tensor.is_contiguous() && tensor.numel() == numbers, name,
                  ": expected ", numbers, " contiguous numbers of its dtype, got ", tensor.numel());
}

// All images of a batch.
struct Batch {
  std::int64_t images;
  Grid grid;
  const std::uint8_t* mask;    // [images, pixels] or null
  Zones zones;                 // of the first image; sets are shared
  const std::int64_t* starts;  // [images + 1]: image i has lesions starts[i] ... starts[i + 1] - 1 of `zones.needed`

  const std::uint8_t* mask_of(std::int64_t image) const {
    return mask == nullptr ? nullptr : mask + image * grid.pixels();
  }
  Zones zones_of(std::int64_t image) const {
    Zones of_image = zones;
    of_image.map += image * grid.pixels();
    of_image.needed += starts[image];
    of_image.lesions = starts[image + 1] - starts[image];
    return of_image;
  }
};

// Lesions and sets that are not there would be counted in the memory of others.
void check_zones(const Batch& batch, std::int64_t sets) {
  const auto check_lesion = [](std::int64_t lesion, std::int64_t least, const Zones& zones, std::int64_t image) {
    STD_TORCH_CHECK(lesion >= least && lesion <= zones.lesions, "zones: expected lesions from 1 to ", zones.lesions,
                    " in image ", image, ", got ", lesion);
  };
  for (std::int64_t image = 0; image < batch.images; ++image) {
    const Zones zones = batch.zones_of(image);
    for (std::int64_t pixel = 0; pixel < batch.grid.pixels(); ++pixel) {
      const std::int64_t zone = zones.map[pixel];
      if (zone >= 0) {
        check_lesion(zone, 0, zones, image);
        continue;
      }
      STD_TORCH_CHECK(-zone <= sets, "zones: expected at most ", sets, " sets, got ", -zone);
      for (std::int64_t i = zones.set_offsets[-zone - 1]; i < zones.set_offsets[-zone]; ++i) {
        check_lesion(zones.set_members[i], 1, zones, image);
      }
    }
  }
}

template <class Real, class Index>
std::int64_t run_images(const Batch& batch, const Real* scores, std::int64_t connectivity, std::int64_t min_size,
                        std::vector<std::vector<Step<Real>>>& steps) {
  const Neighbourhood neighbours(connectivity);
  std::atomic<std::int64_t> nans = 0;
  torch::stable::parallel_for(0, batch.images, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t image = first; image < last; ++image) {
      ComponentTree<Real, Index> tree(batch.grid, neighbours, min_size);
      nans += tree.run(scores + image * batch.grid.pixels(), batch.mask_of(image), batch.zones_of(image), steps[image]);
    }
  });
  return nans;
}

using Found = std::tuple<Tensor, Tensor, Tensor, Tensor, std::int64_t>;

template <class Real>
Found find_steps(const Batch& batch, const Tensor& scores, std::int64_t connectivity, std::int64_t min_size) {
  std::vector<std::vector<Step<Real>>> steps(batch.images);
  std::int64_t nans = 0;
  if (batch.images > 0 && batch.grid.pixels() > 0) {
    const auto* data = data_of<Real>(scores);
    // Twice a size and a flag have to fit.
    const bool small = batch.grid.framed() < std::numeric_limits<std::int32_t>::max() / 2;
    nans = small ? run_images<Real, std::int32_t>(batch, data, connectivity, min_size, steps)
                 : run_images<Real, std::int64_t>(batch, data, connectivity, min_size, steps);
  }
  Tensor offsets = empty_on_device_of(scores, {batch.images + 1}, ScalarType::Long);
  auto* offset = static_cast<std::int64_t*>(offsets.mutable_data_ptr());
  *offset = 0;
  for (const auto& of_image : steps) {
    offset[1] = offset[0] + std::ssize(of_image);
    ++offset;
  }
  Tensor thresholds = empty_on_device_of(scores, {*offset}, scores.scalar_type());
  Tensor hits = empty_on_device_of(scores, {*offset}, ScalarType::Long);
  Tensor false_alarms = empty_on_device_of(scores, {*offset}, ScalarType::Long);
  auto* to_threshold = static_cast<Real*>(thresholds.mutable_data_ptr());
  auto* to_hits = static_cast<std::int64_t*>(hits.mutable_data_ptr());
  auto* to_false_alarms = static_cast<std::int64_t*>(false_alarms.mutable_data_ptr());
  for (const auto& of_image : steps) {
    for (const Step<Real>& step : of_image) {
      *to_threshold++ = step.threshold;
      *to_hits++ = step.hits;
      *to_false_alarms++ = step.false_alarms;
    }
  }
  return {thresholds, hits, false_alarms, offsets, nans};
}

// The steps of all images one after the other, where those of each begin, and how many scores that count are NaN.
Found component_tree(const Tensor& scores,               // [images, planes, rows, columns], float32 or float64
                     const Tensor& zones,                // the same shape, int32
                     const std::optional<Tensor>& mask,  // the same shape, bool or uint8
                     const Tensor& needed,               // [lesions of all images], int64
                     const Tensor& starts,               // [images + 1], int64
                     const Tensor& set_offsets,          // [sets + 1], int64
                     const Tensor& set_members,          // int32
                     std::int64_t connectivity, std::int64_t min_size) {
  STD_TORCH_CHECK(scores.dim() == 4 && scores.is_contiguous(), "scores: expected four contiguous dimensions");
  check(zones, "zones", ScalarType::Int, scores.numel());
  if (mask.has_value()) check(*mask, "mask", mask->scalar_type(), scores.numel());
  const std::int64_t images = scores.size(0), sets = set_offsets.numel() - 1;
  check(starts, "starts", ScalarType::Long, images + 1);
  check(needed, "needed", ScalarType::Long, data_of<std::int64_t>(starts)[images]);
  STD_TORCH_CHECK(sets >= 0, "set_offsets: expected at least one number");
  check(set_offsets, "set_offsets", ScalarType::Long, sets + 1);
  check(set_members, "set_members", ScalarType::Int, data_of<std::int64_t>(set_offsets)[sets]);

  const Batch batch{images,
                    {scores.size(1), scores.size(2), scores.size(3)},
                    mask.has_value() ? data_of<std::uint8_t>(*mask) : nullptr,
                    {data_of<std::int32_t>(zones), data_of<std::int64_t>(needed), 0, data_of<std::int64_t>(set_offsets),
                     data_of<std::int32_t>(set_members)},
                    data_of<std::int64_t>(starts)};
  check_zones(batch, sets);
  return scores.scalar_type() == ScalarType::Double ? find_steps<double>(batch, scores, connectivity, min_size)
                                                    : find_steps<float>(batch, scores, connectivity, min_size);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) { m.impl("component_tree", TORCH_BOX(&component_tree)); }

}  // namespace rarepixel::cpu
