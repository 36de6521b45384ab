"""The notebook workbench of AutoModel. Importing it loads neither torch nor transformers."""

from automodel.version import __version__ as __version__

__all__ = ["__version__"]
