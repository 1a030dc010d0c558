"""Training objectives: recovery likelihood in three forms, denoising score matching, and noise-level classification."""
