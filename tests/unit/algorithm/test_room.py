import ast
import sys
from pathlib import Path

import dsdr_verl.algorithm as room

ALLOWED = {"torch", "numpy"}


def test_the_room_imports_only_tensor_maths():
    for path in Path(room.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.split(".")[0] in ALLOWED | sys.stdlib_module_names or name.startswith(
                    "dsdr_verl.algorithm"
                ), f"{path.name} imports {name}"
