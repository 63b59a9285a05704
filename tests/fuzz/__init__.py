"""Fuzzing of the scoring service: `make fuzz`."""
