"""Models and problems that a run starts from, and the check of files that users bring."""
