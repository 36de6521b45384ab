"""Kernels: which implementation of an op runs, and why the others do not."""

from automodel.kernels.backend import BackendConfig
from automodel.kernels.choose import KernelRow, KernelTable

__all__ = ["BackendConfig", "KernelRow", "KernelTable"]
