"""Training: recipes, data, the method of Lin-CAE, the loop, validation."""
