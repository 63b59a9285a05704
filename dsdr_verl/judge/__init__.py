"""A language model's opinion of how much the correct solutions of a problem differ, after the paper's judge.

`problems` picks the solutions, `prompt` puts the question and reads the answer, `endpoint` asks it of an
OpenAI-compatible server, `answers` keeps what came back, `controls` has questions whose answers are known, and `run`
asks for all problems.
"""
