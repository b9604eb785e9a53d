"""Stage `compare`: all models side by side, and what the numbers say."""
