"""The one decoder that every dense architecture is built from: plain torch, no transformers, no distributed code."""
