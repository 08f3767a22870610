"""CUDA kernels: what one computes (`specs`), how it is generated (`build`), and how its operands lie in GPU memory."""
