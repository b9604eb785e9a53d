"""Stage `evaluate`: a trained model scored on the validation set, and inspected."""
