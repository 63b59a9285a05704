"""Watching a run: its numbers as Ray metrics, a Grafana board of them, and the command that shows both."""
