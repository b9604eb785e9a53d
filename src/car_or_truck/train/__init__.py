"""Stage `train`: everything that decides a model's numbers, and nothing else."""
