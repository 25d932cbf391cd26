"""What a result is worth: spectral distance, levels."""
