"""What is read off one finished response: its verdict, its formulas and its embedding.

`answers` and `verifier` (with `worker`, which runs in the child processes) give the verdict, `formulas` the formula
ids, `embedder` the vector; `scorer` joins the three, and `service` puts scorers behind Ray actors. `countdown` judges
problems with many solutions, which `arithmetic` reads and `modes` tells apart. Nothing is imported here: the child
processes load `worker` alone and must stay small.
"""
