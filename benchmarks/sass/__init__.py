"""``make sass``: what nvcc makes of the CUDA kernels, counted without a GPU.

The numbers are of machine code as it stands, not of a run: how many instructions a path through the loop over the
pixels has, not how often the path is taken nor how long an instruction takes. They tell that a change made the code
shorter, took less registers or no longer spills; that it is faster only a GPU can tell.
"""
