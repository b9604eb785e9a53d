"""A cell is a variant trained with one seed: its fingerprint, its results, its names."""
