"""Glue between the losses and the compiled operators: fake kernels, autograd, label checks. Private."""
