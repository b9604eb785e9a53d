"""A cell is a variant trained with one seed: its description, its results, its names."""
