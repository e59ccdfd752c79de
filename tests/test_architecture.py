"""The rooms of the house: who imports whom, and what stands on the door."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ladseg

PACKAGE = Path(ladseg.__file__).parent

# A room may import from rooms on lower levels only; rooms of one level don't know each other.
LEVELS = {
    "contents": 0,
    "errors": 0,
    "folding": 0,
    "outputs": 0,
    "resize": 0,
    "results": 0,
    "seeds": 0,
    "files": 0,
    "lease": 0,
    "presets": 0,
    "distillation_methods": 0,
    "recipe": 0,
    "recipe_checks": 0,
    "recipe_files": 0,
    "recipe_values": 0,
    "recipe_yaml": 0,
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
    "reproduce": 6,
    "workflows": 6,
    "cli": 7,
    "__main__": 8,
}
# The loop knows tensors, dicts and time, and nothing of label-assisted distillation.
ONLY_LEVEL_0 = {"training"}
# Level 0 is one room: its files may use each other.
PUBLIC = {
    "ComparisonResults",
    "RunResults",
    "compare",
    "train",
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
            rooms |= {alias.name for alias in node.names} - {"__version__"}
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
    """A docstring, the imports that type checkers read, and the same names loaded on first use."""
    loaded_on_first_use = ast.dump(
        ast.parse(
            "from ladseg.contents import on_first_use\n__getattr__, __dir__, __all__ = on_first_use(__name__, __file__)"
        )
    )
    for path in PACKAGE.rglob("__init__.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            version = isinstance(node, ast.Assign) and path.parent == PACKAGE
            assert docstring or version or isinstance(node, ast.ImportFrom | ast.If), f"{path}: line {node.lineno}"
            if isinstance(node, ast.If):
                assert all(isinstance(line, ast.ImportFrom) for line in node.body), path
                assert ast.dump(ast.Module(node.orelse, [])) == loaded_on_first_use, path


def packages() -> list[str]:
    paths = (path.parent.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("__init__.py"))
    return [".".join(path.parts) for path in paths]


@pytest.mark.parametrize("package", packages())
def test_names_of_a_package_load_on_first_use_and_none_is_a_modules(package: str) -> None:
    """Importing a module sets an attribute of its package, so a class or function of the same name would be lost."""
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        modules = {path.stem for path in Path(module.__file__ or "").parent.iterdir()}
        assert isinstance(value, ModuleType) or name not in modules
        assert name in dir(module)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = module.no_such_name


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["recipes"],
        ["models", "--help"],
        ["recipes", "camvid"],
        ["train", "--help"],
        ["demo", "--help"],
        ["trian"],
        ["train", "demo", "--schedule.iteratons", "3"],
        ["train", "demo", "--schedule.lr", "fast"],
        ["predict", "--window", "wide"],
        ["--print-completion", "bash"],
        [],
    ],
    ids=" ".join,
)
def test_quick_commands_import_no_torch(words: list[str]) -> None:
    """Importing torch takes seconds, and no help text needs it."""
    code = (
        "import sys, ladseg\n"
        f"words = {words}\n"
        "if words:\n"
        "    from ladseg.cli import main\n"
        "    try:\n"
        "        main(words)\n"
        "    except SystemExit:\n"
        "        pass\n"
        "heavy = {'torch', 'timm', 'matplotlib', 'torchvision', 'numpy', 'scipy', 'PIL', 'accelerate'}\n"
        "sys.exit(f'imported: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names_and_commands_are_a_contract() -> None:
    from ladseg.cli.entry import make_parser

    assert set(ladseg.__all__) == PUBLIC
    commands = {
        "demo",
        "train",
        "compare",
        "paper",
        "reproduce",
        "eval",
        "export",
        "predict",
        "report",
        "submit",
        "bench",
        "init",
        "check",
        "data",
        "recipes",
        "models",
    }
    assert set(make_parser()[1]) == commands
