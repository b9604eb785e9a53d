"""The commands for people: promote, predict, reproduce, sync, clean."""
