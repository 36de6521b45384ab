"""View-models: plain objects that a panel shows; no widgets, no HTML."""
