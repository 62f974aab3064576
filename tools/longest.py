"""Print the longest files and functions: whoever touches one asks whether it should be two."""

import ast
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 60


def main() -> None:
    source = Path(__file__).resolve().parent.parent / "src"
    for path in sorted(source.rglob("*.py")):
        if path.name.endswith("_pb2.py"):
            continue
        text = path.read_text()
        if (lines := text.count("\n")) > FILE_LINES:
            print(f"{path.relative_to(source)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES:
                    print(f"{path.relative_to(source)}: {node.name}: {length} lines")


if __name__ == "__main__":
    main()
