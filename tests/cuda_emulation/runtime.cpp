// The functions of torch that only its CUDA half has, or that would look for a GPU, for the emulated library alone: its
// calls are bound to them here, those of torch itself are not.
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>

#include <cstring>

#include "scheduler.h"

extern "C" {

AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}

AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  *guard = nullptr;
  return 0;
}

AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) { return 0; }

AOTITorchError torch_c10_cuda_check_msg(int32_t error, const char*, const char*, uint32_t, bool, char** message) {
  *message = error == 0 ? nullptr : strdup("emulated CUDA: an error of the runtime");
  return 0;
}

void torch_c10_cuda_free_error_msg(char* message) { free(message); }

// New memory is full of rubbish.
AOTITorchError aoti_torch_empty_strided(int64_t dimensions, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                                        int32_t device_type, int32_t device_index, AtenTensorHandle* tensor) {
  static const auto of_torch =
      reinterpret_cast<decltype(&aoti_torch_empty_strided)>(dlsym(RTLD_NEXT, "aoti_torch_empty_strided"));
  const AOTITorchError error = of_torch(dimensions, sizes, strides, dtype, device_type, device_index, tensor);
  if (error != 0) return error;
  int64_t bytes = 0;
  void* memory = nullptr;
  aoti_torch_get_storage_size(*tensor, &bytes);
  aoti_torch_get_data_ptr(*tensor, &memory);
  if (bytes > 0) std::memset(memory, emulation::rubbish(), static_cast<std::size_t>(bytes));
  return 0;
}
}
