"""The synthetic images that stand in for photographs."""
