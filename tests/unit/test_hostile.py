"""What came from outside is text: in the console, in YAML, in templates. The code that could forget it is looked at.

The rest of the threat model's tests stand beside what they try: docs/security.md has the list.
"""

import ast
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from jinja2.exceptions import SecurityError
from rich.console import Console
from transformers import AutoTokenizer

from dsdr_verl.console import RunConsole
from dsdr_verl.data.models import COMMITTED, TINY
from dsdr_verl.sweep import __main__ as sweep_command
from dsdr_verl.sweep.grid import jobs_of, read_sweep

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for folder in ("dsdr_verl", "conf", "recipe") for path in (ROOT / folder).rglob("*.py"))


def test_a_sources_name_is_text_in_the_console(tmp_path):
    """It comes from the data file: markup would end the run with an error, and an escape would reach the terminal."""
    source = "[/b] [red]x[link=http://a] \x1b]0;title\x07 {0.__class__} %s"
    out = io.StringIO()
    console = RunConsole(Console(file=out, width=300), tmp_path)
    metrics = {f"val-core/{source}/acc/pass@1": 0.5}
    for step in (0, 1):
        console.on_event({"kind": "validation", "step": step, "metrics": metrics})
    console.on_event({"kind": "alarm", "step": 1, "text": source})
    console.summary()
    shown = source.replace("\x1b", "\N{REPLACEMENT CHARACTER}").replace("\x07", "\N{REPLACEMENT CHARACTER}")
    assert out.getvalue().count(shown) == 4 and "\x1b" not in out.getvalue()


@pytest.mark.parametrize("key", ["machine", "folder", "common"])
def test_a_sweep_runs_no_yaml_tag(tmp_path, capsys, key):
    mark, path = tmp_path / "ran", tmp_path / "sweep.yaml"
    lines = {"folder": "out", "grids": "[[+algorithm=dsdr]]", "minutes": "1", "machine": "any"}
    lines[key] = f"!!python/object/apply:os.mkdir [{str(mark)!r}]"
    path.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    assert sweep_command.main([str(path)]) == 2
    assert "no sweep to read" in capsys.readouterr().err and not mark.exists()
    yaml.unsafe_load(path.read_text())
    assert mark.exists(), "the tag would have done it"


def test_a_run_stays_in_the_folder_of_its_sweep(tmp_path):
    path = tmp_path / "sweep.yaml"
    grids = [["+algorithm=dsdr", "trainer.project_name=../../x,/etc/x,a"]]
    path.write_text(json.dumps({"folder": str(tmp_path / "s"), "grids": grids, "minutes": 1, "machine": "any"}))
    folders = [job.folder for job in jobs_of(read_sweep(path))]
    assert len(folders) == 3 and all(folder.resolve().parent == tmp_path / "s" for folder in folders)


@pytest.mark.parametrize(
    "template",
    ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.append(1) }}", "{{ cycler.__init__.__globals__ }}"],
)
def test_a_models_chat_template_runs_in_a_sandbox(template):
    tokenizer = AutoTokenizer.from_pretrained(COMMITTED[TINY])
    with pytest.raises(SecurityError):
        tokenizer.apply_chat_template([{"role": "user", "content": "1"}], chat_template=template, tokenize=False)


def calls(module: Path):
    """(called name, the call) of each call in a file."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(call: ast.Call) -> dict[str, str]:
    return {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg}


def test_nothing_of_ours_unpickles_or_evaluates():
    never = {"eval", "exec", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load", "hydra.utils.instantiate"}
    pickles = {
        "pickle.load",
        "pickle.loads",
        "cloudpickle.loads",
        "joblib.load",
        "pd.read_pickle",
        "dill.loads",
        "instantiate",
    }
    found = []
    for module in MODULES:
        for name, call in calls(module):
            words = keywords(call)
            bad = name in never | pickles
            bad |= name == "yaml.load" and "_Unique" not in ast.unparse(call)  # ours, a SafeLoader
            bad |= name in ("torch.load", "load") and words.get("weights_only", "True") != "True"
            bad |= name == "torch.load" and "weights_only" not in words
            bad |= "allow_pickle" in words or words.get("shell") == "True"
            bad |= words.get("trust_remote_code", "False") not in ("False", "trusted")
            if bad:
                found.append(f"{module.relative_to(ROOT)}:{call.lineno} {name}")
    assert len(MODULES) > 100 and not found


def test_only_constants_are_formats():
    """`str.format` on a text of a model's could read any attribute of what it is given."""
    ours = {"form", "template"}  # of console.STEP_COLUMNS, of data/tasks.py
    found = []
    for module in MODULES:
        for name, call in calls(module):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ("format", "format_map", "vformat"):
                receiver = call.func.value
                constant = isinstance(receiver, ast.Constant)
                named = isinstance(receiver, ast.Name) and (receiver.id.isupper() or receiver.id in ours)
                if not (constant or named):
                    found.append(f"{module.relative_to(ROOT)}:{call.lineno} {name}")
    assert not found


def test_the_tests_of_the_threat_model_are_there():
    named = set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/security.md").read_text()))
    assert len(named) > 30
    missing = [
        (file, test)
        for file, test in named
        if not (ROOT / file).is_file() or (test and f"def {test}(" not in (ROOT / file).read_text())
    ]
    assert not missing
