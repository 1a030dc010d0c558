"""Settings of a fit and the presets that fill them."""
