"""The rooms of the house: who imports whom, and what stands on the door."""

import ast
from pathlib import Path

import ladseg

PACKAGE = Path(ladseg.__file__).parent

# A room may import from rooms on lower levels only; rooms of one level don't know each other.
LEVELS = {
    "errors": 0,
    "outputs": 0,
    "resize": 0,
    "seeds": 0,
    "files": 0,
    "presets": 0,
    "distillation_methods": 0,
    "recipe": 0,
    "recipe_files": 0,
    "progress": 0,
    "label_noise": 1,
    "data": 1,
    "models": 1,
    "losses": 1,
    "distillers": 1,
    "training": 1,
    "objectives": 2,
    "evaluation": 2,
    "measure": 3,
    "deploy": 3,
    "report": 3,
    "runs": 4,
    "comparison": 5,
    "commands": 5,
    "bench": 6,
    "cli": 7,
    "__main__": 8,
}
# The loop knows tensors, dicts and time, and nothing of label-assisted distillation.
ONLY_LEVEL_0 = {"training"}
# Level 0 is one room: its files may use each other.
PUBLIC = {
    "ConfusionMatrix",
    "Inference",
    "LabelAssisted",
    "LabelNoise",
    "Plain",
    "Recipe",
    "SegmentationOutput",
    "Segmenter",
    "Student",
    "adapt",
    "StudentObjective",
    "TeacherObjective",
    "build_model",
    "distillers",
    "list_models",
    "load",
    "load_recipe",
    "widen_input",
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ladseg."):
            rooms.add((node.module or "").split(".")[1])
        if isinstance(node, ast.ImportFrom) and node.module == "ladseg":
            rooms |= {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ladseg.")}
    return rooms


def test_every_file_has_a_room_and_imports_only_from_below() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py"]
    assert len(files) > 40
    for path in files:
        room = room_of(path)
        assert room in LEVELS, f"{path}: a new room; give it a level"
        for other in imported_rooms(path) - {room}:
            allowed = (
                LEVELS[other] < (1 if room in ONLY_LEVEL_0 else LEVELS[room]) or LEVELS[room] == 0 == LEVELS[other]
            )
            assert allowed, f"{path} imports {other}"


def test_tables_of_contents_hold_nothing_else() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            version = isinstance(node, ast.Assign) and path.parent == PACKAGE
            assert docstring or version or isinstance(node, ast.ImportFrom), f"{path}: line {node.lineno}"


def test_public_names_and_commands_are_a_contract() -> None:
    from ladseg.cli import make_parser

    modules = {path.stem for path in PACKAGE.iterdir()}
    assert {name for name in vars(ladseg) if not name.startswith("_")} - (modules - PUBLIC) == PUBLIC
    commands = {
        "demo",
        "train",
        "compare",
        "paper",
        "eval",
        "export",
        "predict",
        "report",
        "submit",
        "bench",
        "check",
        "data",
        "recipes",
        "models",
    }
    assert set(make_parser()[1]) == commands
