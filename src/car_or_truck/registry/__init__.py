"""MLflow's model registry."""
