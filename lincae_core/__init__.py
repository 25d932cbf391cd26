"""The models and everything around them: audio files, encoding, decoding, training, evaluation."""
