"""Weight files: reading safetensors headers and checking folders before a byte of a tensor is read."""

from automodel.weights.files import FolderReport, Header, TensorInfo, inspect_folder, read_header

__all__ = ["FolderReport", "Header", "TensorInfo", "inspect_folder", "read_header"]
