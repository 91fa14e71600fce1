// The losses that the CPU engine is compiled for: one include and one line each. Read last by every isa_*.cpp.
#include "../bin_loss.h"
#include "../random_drop.h"
#include "../segment_thickness.h"
#include "../softmax_unified_focal.h"
#include "../squared_error.h"
#include "../top_k.h"
#include "../unified_focal.h"
#include "class_engine.h"
#include "engine.h"
#include "segment_counts.h"
#include "select.h"

namespace rarepixel::RAREPIXEL_ISA {

template Kernels<RandomDrop<DropSchedule::kLinear>> kernels<RandomDrop<DropSchedule::kLinear>>();
template Kernels<RandomDrop<DropSchedule::kSquare>> kernels<RandomDrop<DropSchedule::kSquare>>();
template Kernels<RandomDrop<DropSchedule::kLog>> kernels<RandomDrop<DropSchedule::kLog>>();
template Kernels<TopK> kernels<TopK>();
template Kernels<BinLoss<5>> kernels<BinLoss<5>>();
template Kernels<BinLoss<16>> kernels<BinLoss<16>>();
template Kernels<MultiChannelBin<5>> kernels<MultiChannelBin<5>>();
template Kernels<SegmentThickness> kernels<SegmentThickness>();
template Kernels<SoftUnifiedFocal> kernels<SoftUnifiedFocal>();
template ClassKernels<SoftmaxUnifiedFocal> class_kernels<SoftmaxUnifiedFocal>();
template Kernels<SquaredError> kernels<SquaredError>();
template Kernels<UnifiedFocal<PixelTerms::kNone>> kernels<UnifiedFocal<PixelTerms::kNone>>();
template Kernels<UnifiedFocal<PixelTerms::kPlain>> kernels<UnifiedFocal<PixelTerms::kPlain>>();
template Kernels<UnifiedFocal<PixelTerms::kFocal>> kernels<UnifiedFocal<PixelTerms::kFocal>>();

}  // namespace rarepixel::RAREPIXEL_ISA
