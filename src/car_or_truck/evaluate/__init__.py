"""Stage `evaluate`: a trained model scored on validation, and inspected."""
