"""Many runs, one after the other: `grid` says which, `launch` runs them, `python -m dsdr_verl.sweep` is the command."""
