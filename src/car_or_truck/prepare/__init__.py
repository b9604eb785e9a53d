"""Stage `prepare`: the images audited, and decoded to arrays."""
