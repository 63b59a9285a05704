"""Evaluation of a model on problems: `python -m dsdr_verl.evaluate`, and of two in pairs, `….evaluate.compare`.

`settings` checks the config, `problems` and `model` find what it names, `manifest` knows what decides the samples.
`sampling` drives the engines (`engine`, Ray actors) and the scoring service, `store` keeps what they give, `results`
estimates, `tables` prints.
"""
