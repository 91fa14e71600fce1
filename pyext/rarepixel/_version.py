from ._library import build_info

# A release with CUDA kernels tells of which CUDA: 0.1.0+cu130.
__version__ = "0.1.0" + build_info().get("_C_cuda", {}).get("label", "")
