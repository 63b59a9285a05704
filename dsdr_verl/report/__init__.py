"""One page on one or several runs, from what they leave in their folders."""
