"""`python -m dsdr_verl.plan qwen3_4b`: what a recipe asks of GPUs, hosts and network, and whether it can run at all."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import replace
from itertools import product

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from dsdr_verl.planning.estimate import Estimate, estimate
from dsdr_verl.planning.memory import GIB, Memory
from dsdr_verl.planning.recipes import arms, composed, recipes
from dsdr_verl.planning.stages import GPU, GPUS

NODES = (1, 2, 3, 4)  # of --all

DESCRIPTION = """\
Batches, memory, traffic and time of a recipe, before there is a GPU to run it on; every problem that our checks, verl's
own validation and the estimates find. Counts are exact; sizes and times are estimates (docs/scaling.md)."""

EPILOG = """
example:  python -m dsdr_verl.plan qwen3_4b --arm dapo --nodes 2 actor_rollout_ref.rollout.gpu_memory_utilization=0.7
exit:     0 it validates and fits, 1 it does not, 2 it cannot be planned
"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _parser().parse_intermixed_args(arguments)
    if not shutil.which("nvidia-smi"):
        os.environ.setdefault("VERL_PLATFORM", "cpu")  # verl settles its platform as it is imported
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    gpu = GPUS[args.gpu]
    if args.gpu_memory_gib:
        gpu = replace(gpu, memory=args.gpu_memory_gib * GIB)
    overrides = tuple(args.overrides)
    if args.recipe and "=" in args.recipe:
        args.recipe, overrides = None, (args.recipe, *overrides)
    try:
        if args.all:
            if args.recipe:
                raise ValueError(f"--all is every recipe; leave out {args.recipe}, or --all")
            return _all(console, gpu, args.response, overrides)
        if args.recipe is None:
            raise ValueError(f"name a recipe: {', '.join(recipes())}; or --all")
        config = composed(args.recipe, args.arm, args.nodes, overrides)
        found = estimate(config, gpu, args.response)
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        print(error, file=sys.stderr)
        return 2
    _show(console, config, found, gpu, f"{args.recipe}, {args.arm}")
    return 1 if found.problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dsdr_verl.plan",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", nargs="?", help=", ".join(recipes()))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as in training")
    parser.add_argument("--arm", default="dsdr", help=f"{', '.join(arms())}; default: %(default)s")
    parser.add_argument("--nodes", type=int, metavar="N", help="default: what the recipe says")
    parser.add_argument("--gpu", choices=GPUS, default="a100-40gb", help="default: %(default)s, the paper's")
    parser.add_argument("--gpu-memory-gib", type=float, metavar="GIB", help="of a GPU, if not as --gpu says")
    parser.add_argument("--response", type=float, metavar="TOKENS", help="mean length; default: half of the longest")
    parser.add_argument("--all", action="store_true", help="one line for every recipe, arm and 1 to 4 nodes")
    return parser


def _all(console: Console, gpu: GPU, response: float | None, overrides: tuple[str, ...]) -> int:
    table = Table("recipe", "arm", "nodes", "batch", "a rank", "GPU memory", "in", "tokens/s", "s a step", "")
    for column in table.columns:
        column.no_wrap = True
    places: dict[str, list[str]] = {}
    for recipe, arm in product(recipes(), arms()):
        config = composed(recipe, arm, overrides=overrides)
        prompts, mini = config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size
        for nodes in NODES:
            config.trainer.nnodes = nodes
            config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size = prompts, mini
            found = estimate(config, gpu, response)
            if (batch := found.batch).mini_batch % batch.ranks:
                config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size = batch.nearest
                found = estimate(config, gpu, response)
            for problem in found.problems:
                places.setdefault(problem, []).append(f"{recipe}, {arm}, {nodes} node(s)")
            batch, room, stage = found.batch, found.memory, found.stages
            table.add_row(
                recipe,
                arm,
                str(nodes),
                f"{batch.prompts} / {batch.mini_batch * batch.prompts // batch.rollouts}",
                f"{batch.rollouts / batch.ranks:g}",
                f"{room.peak(room.highest) / GIB:.1f} GiB",
                room.highest,
                f"{stage.throughput:,.0f}",
                f"{stage.step:.0f}",
                f"{len(found.problems)} ✗" if found.problems else "✓",
            )
    console.print(table)
    console.print(
        "Batch: prompts of a step / of an optimiser step, the nearest to the recipe's that the GPUs can share.\n"
        "A rank: rollouts of a step on it. "
        "Memory, tokens/s and seconds are estimates; a step is without validation, checkpoints and dynamic sampling."
    )
    return _list(console, [f"{problem} ({len(at)} of these, first {at[0]})" for problem, at in places.items()])


def _show(console: Console, config: DictConfig, found: Estimate, gpu: GPU, title: str) -> None:
    batch, room, stage, moved = found.batch, found.memory, found.stages, found.traffic
    nodes, scoring = batch.gpus // batch.gpus_per_node, config.scoring
    rows = {
        "model": f"{config.actor_rollout_ref.model.path}, {found.shape.parameters / 1e9:.3f} B parameters",
        "GPUs": f"{nodes} node(s) × {batch.gpus_per_node} of {gpu.memory / GIB:g} GiB; {batch.replicas} vLLM replicas",
        "a step": f"{batch.prompts} prompts × {batch.rollouts // batch.prompts} = {batch.rollouts:,} rollouts, "
        f"{batch.rollouts / batch.ranks:.4g} a rank, {batch.rollouts_per_replica} a replica"
        + (", after groups without a signal are replaced" if _filters(config) else ""),
        "optimiser steps": f"{batch.optimiser_steps} of {batch.mini_batch} rollouts, {batch.mini_batch_per_rank:.3g} a "
        f"rank in at most {batch.micro_batches} micro-batches of ≤ {batch.token_limit:,} tokens",
        "longest sequence": f"{batch.longest:,} tokens, {batch.longest_response:,} of them response",
        "tokens": f"~{stage.tokens / 1e6:.1f} M a step with responses of {stage.response:,.0f} on average",
        "KV cache": f"~{room.cache / GIB:.1f} GiB a GPU: {room.cached_sequences:.0f} of the longest sequences, "
        f"{stage.concurrency} average ones at once",
        "weight sync": f"~{moved.sync_gathered / 1e9:.1f} GB received by each GPU, {moved.sync_copied / 1e9:.1f} GB "
        "handed to its vLLM",
        "a micro-batch": f"~{moved.micro_batch / 1e9:.1f} GB of weights and gradients through each GPU",
        "host memory": f"~{room.host / GIB:.0f} GiB a node at start-up, without Ray's object store and scoring",
        "checkpoint": f"~{room.checkpoint / 1e9:.1f} GB, of which {config.trainer.max_actor_ckpt_to_keep} are kept",
        "scoring": f"~{stage.scoring:,.0f} core-seconds a step: {stage.cores:.1f} cores hide it behind generation; "
        f"{scoring.actors} actors, embedding: {scoring.embedding.long} on {scoring.embedding.device}",
        "CPU cores of a node": f"{3 * batch.gpus_per_node} that verl sets aside, and "
        f"{scoring.num_cpus * scoring.actors / nodes:g} of scoring",
        "seconds": f"~{stage.step:.0f} a step: generation {stage.generation:.0f} (its longest response alone "
        f"{stage.tail:.0f}), old log-probs {stage.log_prob:.0f}, update {stage.update:.0f}, "
        f"sync at least {stage.sync:.1f}",
        "throughput": f"~{stage.throughput:,.0f} tokens/s, {stage.throughput / batch.gpus:,.0f} a GPU",
    }
    heading = f"{title}: ~ marks estimates, none compared with a GPU"
    table = Table(title=heading, show_header=False, title_justify="left")
    for row in rows.items():
        table.add_row(*row)
    console.print(table)
    console.print(_memory(room))
    _list(console, found.problems)


def _memory(room: Memory) -> Table:
    """Parts down, phases across."""
    parts = sorted(
        {part for phase in room.phases.values() for part, size in phase.items() if size},
        key=lambda part: (not part.startswith("trainer"), not part.startswith("vLLM"), part),
    )
    table = Table("GiB of a GPU, estimated", show_footer=True)
    table.columns[0].footer = "sum"
    for phase in room.phases:
        table.add_column(phase, f"{room.peak(phase) / GIB:.1f}", justify="right")
    for part in parts:
        cells = (phase.get(part, 0) / GIB for phase in room.phases.values())
        table.add_row(part, *(f"{cell:.1f}" if cell else "–" for cell in cells))
    return table


def _filters(config: DictConfig) -> bool:
    return bool(OmegaConf.select(config, "algorithm.filter_groups.enable"))


def _list(console: Console, problems: list[str]) -> int:
    console.print(f"{len(problems)} problem(s)" if problems else "it validates and fits, as far as can be told here")
    for problem in problems:
        console.print(f"  - {problem}", soft_wrap=True, markup=False)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
