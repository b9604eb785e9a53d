"""MLflow's runs."""
