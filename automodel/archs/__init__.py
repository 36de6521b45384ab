"""One small file for each family of architectures: its names, its config -> `DecoderSpec`, its extra weight rules and its tiny configs."""
