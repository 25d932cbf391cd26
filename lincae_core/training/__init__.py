"""Training: recipes, data, the two linearity tricks, schedules, the loop, checkpoints."""
