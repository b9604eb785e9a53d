"""Stage `compare`: all models side by side, and what the numbers allow to say."""
