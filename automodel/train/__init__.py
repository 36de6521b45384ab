"""The training loop and its parts; `loop.train` is the page to read first."""
