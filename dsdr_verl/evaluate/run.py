"""An evaluation from its checked config to its files."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from dsdr_verl.checks.reading import items
from dsdr_verl.evaluate.compare import PROBLEMS
from dsdr_verl.evaluate.engine import start_engines
from dsdr_verl.evaluate.manifest import agree, deciding, write_json
from dsdr_verl.evaluate.model import Model, find_model
from dsdr_verl.evaluate.problems import Problems, files_of, read_problems
from dsdr_verl.evaluate.progress import shown
from dsdr_verl.evaluate.results import per_problem, summarise
from dsdr_verl.evaluate.sampling import Work, missing, rescore, sample_and_score
from dsdr_verl.evaluate.settings import ks_of, scoring_mark, scoring_options
from dsdr_verl.evaluate.store import RolloutStore
from dsdr_verl.evaluate.tables import summary_latex, summary_markdown, summary_table
from dsdr_verl.ray_address import silence
from dsdr_verl.scoring.service import ScoringClient
from dsdr_verl.trainer.traces import Traces

SUMMARY, MARKDOWN, LATEX = "summary.json", "summary.md", "summary.tex"


@dataclass(frozen=True)
class Evaluation:
    """What a config amounts to."""

    config: DictConfig
    model: Model
    problems: Problems
    prompts: tuple[str, ...]  # with the chat template
    prompt_ids: tuple[tuple[int, ...], ...]

    @property
    def folder(self) -> Path:
        config = self.config
        if config.output is not None:
            return Path(str(config.output)).absolute()
        task = config.task or "+".join(Path(str(path)).stem for path in items(config.files))
        sampling = f"t{config.sampling.temperature:g}-p{config.sampling.top_p:g}-seed{config.seed}"
        return Path("outputs/evaluate", f"{self.model.label}-{task}-{sampling}").absolute()

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(map(len, self.prompt_ids))


def prepare(config: DictConfig) -> Evaluation:
    """Find the model and the problems, and write the prompts.

    Raises:
        ValueError: something that the config names is not to be had or does not fit. Names the key and the fix.
        FileNotFoundError: the package that carries the model is missing.
    """
    files = [Path(str(path)).expanduser() for path in items(config.files)] or files_of(config.task, config.split)
    problems = read_problems(files, config.limit)
    model = find_model(config.model)

    from transformers import AutoTokenizer  # takes seconds

    trusted = bool(config.engine.args.get("trust_remote_code"))  # as vLLM is told; else transformers might ask
    tokenizer = AutoTokenizer.from_pretrained(model.folder, trust_remote_code=trusted)
    if tokenizer.chat_template is None:
        raise ValueError(
            f"model is {config.model!r}, whose tokenizer has no chat template; put chat_template.jinja there"
        )
    extra = OmegaConf.to_container(config.chat_template_kwargs)
    prompts, ids = [], []
    for problem in problems.all:
        messages = list(problem.prompt)
        prompts.append(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **extra))
        ids.append(tuple(tokenizer.encode(prompts[-1], add_special_tokens=False)))
    evaluation = Evaluation(config, model, problems, tuple(prompts), tuple(ids))
    if (room := model.positions) is not None and evaluation.longest + config.max_tokens > room:
        raise ValueError(
            f"max_tokens is {config.max_tokens}, the longest prompt has {evaluation.longest} tokens, and the model "
            f"{room} positions; set max_tokens to at most {room - evaluation.longest}"
        )
    return evaluation


def open_folder(evaluation: Evaluation) -> tuple[RolloutStore, dict[str, tuple[int, ...]]]:
    """The folder's samples, and the numbers of those that each problem lacks.

    Raises:
        ValueError: the folder has samples that other settings decided, or a broken shard.
    """
    config, folder = evaluation.config, evaluation.folder
    folder.mkdir(parents=True, exist_ok=True)
    notes = {
        "n": config.n,
        "model": config.model,
        "task": config.task,
        "files": list(map(str, evaluation.problems.files)),
    }
    agree(folder, deciding(config, evaluation.model.mark, evaluation.problems.mark), notes)
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    store = RolloutStore(folder / "rollouts", scoring_mark(scoring_options(config)), config.save_seconds)
    return store, missing(evaluation.problems.all, config.n, store.samples())


def start_ray(config: DictConfig, traces: Traces) -> str:
    """Join the cluster at RAY_ADDRESS, or start one on this machine; returns what to tell the user about it.

    Args:
        traces: gets to know the session of a Ray that is started.

    Raises:
        ValueError: nothing answers there, or it has too few GPUs.
    """
    address = os.environ.get("RAY_ADDRESS") or "local"
    if address != "local" and (problem := silence(address)):
        raise ValueError(f"RAY_ADDRESS: {problem}; start that cluster, or unset it")
    own = {"include_dashboard": False} if address == "local" else {}
    with traces.of_ray():
        ray.init(address, logging_level="ERROR", namespace=f"evaluate-{os.getpid()}", **own)
    engine = config.engine
    wanted = engine.replicas * engine.tensor_parallel_size if engine.device == "cuda" else 0
    if wanted > (there := int(ray.cluster_resources().get("GPU", 0))):
        raise ValueError(
            f"engine.replicas × engine.tensor_parallel_size is {wanted} GPUs, and Ray has {there}; lower one of them"
        )
    return f"joined {address}" if address != "local" else "started on this machine"


def complete(
    evaluation: Evaluation, store: RolloutStore, lacking: dict[str, tuple[int, ...]], console: Console
) -> None:
    """Draw and score what is missing. Ray must be up.

    Raises:
        RayError: an engine or the scoring service failed; what was finished is in the store.
    """
    config = evaluation.config
    texts = zip(evaluation.problems.all, evaluation.prompts, evaluation.prompt_ids, strict=True)
    work = [Work(problem, text, ids, lacking[problem.key]) for problem, text, ids in texts if problem.key in lacking]
    gpus = config.engine.tensor_parallel_size if config.engine.device == "cuda" else 0
    env = {key: str(value) for key, value in config.engine.env.items()}
    engines = start_engines(config.engine.replicas, gpus, env, engine_args(evaluation)) if work else []
    scorer = ScoringClient.connect(scoring_options(config))

    async def everything() -> None:
        with console.status("loading vLLM and the scoring service"):
            await asyncio.gather(*(engine.ready.remote() for engine in engines), scorer.ready())
        if stale := sum(len(rows) for _, rows in store.stale()):
            with shown(console, "scoring anew", stale, speed=False) as advance:
                await rescore(store, scorer, advance)
        if work:
            with shown(console, "sampling", sum(len(item.samples) for item in work)) as advance:
                await sample_and_score(
                    work, engines, scorer, store, seed=config.seed, at_once=config.engine.capacity.max_num_seqs,
                    options={**config.sampling, "max_tokens": config.max_tokens}, progress=advance,
                )  # fmt: skip

    asyncio.run(everything())
    for engine in engines:
        ray.get(engine.close.remote())
    scorer.close()


def engine_args(evaluation: Evaluation) -> dict[str, Any]:
    """What vLLM's `AsyncEngineArgs` takes."""
    config, model = evaluation.config, evaluation.model
    engine = OmegaConf.to_container(config.engine, resolve=True)
    return {
        "model": model.name,
        "revision": model.revision,
        "dtype": engine["dtype"],
        "tensor_parallel_size": engine["tensor_parallel_size"],
        "max_model_len": evaluation.longest + config.max_tokens,
        "disable_log_stats": True,
        **engine["capacity"],
        **engine["args"],
    }


def conclude(evaluation: Evaluation, store: RolloutStore, console: Console) -> None:
    """Estimate, write `problems.parquet`, `summary.json`, `summary.md` and `summary.tex`, and print the table."""
    config, folder = evaluation.config, evaluation.folder
    problems = evaluation.problems.all
    rollouts = store.read([problem.key for problem in problems], config.n, leave_out=("prompt", "response"))
    table = per_problem(rollouts, problems, ks_of(config))
    summary = summarise(table, rollouts, config.max_tokens, config.level)
    scratch = folder / f".{PROBLEMS}.part"
    table.to_parquet(scratch)
    os.replace(scratch, folder / PROBLEMS)
    write_json(folder / SUMMARY, {"n": config.n, "sources": summary})
    for name, text in ((MARKDOWN, summary_markdown), (LATEX, summary_latex)):
        (folder / name).write_text(text(summary, config.n, config.level), encoding="utf-8")
    console.print(summary_table(summary, config.n, config.level))
    console.print(
        f"summary    {folder / SUMMARY}\nproblems   {folder / PROBLEMS}\nrollouts   {store.folder}", soft_wrap=True
    )
