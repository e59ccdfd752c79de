"""What README and docs show works as it stands there.

Python blocks run; recipes load; commands are parsed by the program's own parsers, keys included. What a command does is
tested beside each command.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import ladseg
from ladseg.cli.entry import parse
from ladseg.data import LAYOUTS, write_demo_scenes
from ladseg.deploy.export import export_student
from ladseg.deploy.student_file import save_student
from ladseg.recipe import Recipe
from ladseg.recipe_files import make_recipe
from tests.api_page import ORDER, api_page
from tests.test_architecture import LEVELS, PUBLIC

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
# Lines of these blocks are alternatives, not one recipe.
BY_LINE = {"README.md", "data.md"}


# What is typed on a fresh machine before there is any of ours.
FRESH = [
    ["sudo", "apt-get", "install", "-y", "git", "make", "python3-venv"],
    ["git", "clone", "<address of this repository>", "ladseg"],
    ["cd", "ladseg"],
    ["source", ".venv/bin/activate"],
]


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for page, text in PAGES.items():
        for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL):
            yield page, block


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    kinds = [kind for text in PAGES.values() for kind in re.findall(r"^```(.*)$", text, re.MULTILINE)]
    assert set(kinds[::2]) <= {"sh", "yaml", "python"}
    assert set(kinds[1::2]) == {""}


def my_network() -> torch.nn.Module:
    return ladseg.build_model("pspnet@test_resnet", 19)


@pytest.mark.parametrize("page", sorted({page for page, _ in blocks("python")}))
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 96, 3), dtype=np.uint8)).save("street.png")
    data = {"class_names": [f"class {number}" for number in range(19)], "colors": [(0, 0, 9)] * 19}
    save_student(Path("student.safetensors"), my_network(), data)
    if page == "README.md":
        write_demo_scenes(Path("scenes"), train=4, val=2, size=(32, 48))
        schedule = {"iterations": 2, "batch_size": 2, "crop": [32, 32], "eval_every": 2}
        place = {"root": "scenes", "classes": "scenes/classes.txt", "ignore_index": 9}
        recipe = {"data": place, "student": {"model": "pspnet@test_resnet"}, "schedule": schedule, "trackers": []}
        Path("mine.yaml").write_text(yaml.safe_dump(recipe))
    if page == "export.md":
        export_student("student.safetensors", "onnx", normalize=True, argmax=True)
    batch = {
        "image": torch.randn(2, 3, 32, 32),
        "label": torch.randint(0, 19, (2, 32, 32)),
        "seed": torch.tensor([1, 2]),
    }
    names = {"my_network": my_network, "batch": batch, "loader": [(batch["image"], batch["label"])] * 2}
    for block_of, code in blocks("python"):
        if block_of == page:
            exec(code, names)
    if page not in ("predict.md", "export.md", "recipe.md"):
        loss = names["losses"]["loss"] if "losses" in names else names["loss"]
        assert loss.isfinite()  # type: ignore[union-attr]


def test_yaml_blocks_are_recipes() -> None:
    loaded = []
    for page, block in blocks("yaml"):
        for text in block.splitlines() if page in BY_LINE else [block]:
            loaded.append(make_recipe(yaml.safe_load(text)))
    assert len(loaded) >= 20
    assert all(isinstance(recipe, Recipe) and recipe.data.layout in LAYOUTS for recipe in loaded)


def commands() -> Iterator[tuple[str, list[str]]]:
    for page, block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.split(" > ")[0], comments=True)
            if words:
                yield page, words


@pytest.mark.parametrize(("page", "words"), [pytest.param(*found, id=" ".join(found[1])[:60]) for found in commands()])
def test_commands_are_as_the_program_takes_them(page: str, words: list[str]) -> None:
    program, *rest = words
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert f"\n{rest[0]}:" in makefile
        assert all(f"\n{setting.partition('=')[0]} ?=" in makefile for setting in rest[1:])
    elif program in ("sudo", "git", "cd", "source"):
        assert words in FRESH
    elif program == "pip":
        extras = re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
        assert rest[0] == "install"
        named = re.findall(r"\[([\w,]+)\]", " ".join(rest))
        assert {extra for names in named for extra in names.split(",")} <= set(extras)
        assert not any(word.startswith("ladseg") for word in rest), "ladseg is installed from its checkout"
    elif program == "ladseg":
        if rest[0].startswith("--"):
            with pytest.raises(SystemExit, match="0"):  # It prints, and is done.
                parse(rest)
        else:
            make_recipe({}, parse(rest)[1])
    else:
        assert program == "python"
        assert (ROOT / rest[0]).is_file()


def test_every_public_name_is_on_the_page_of_names() -> None:
    missing = {name for name in PUBLIC if not re.search(rf"`[^`|]*\b{name}\b", PAGES["api.md"])}
    assert not missing


def test_every_page_is_on_the_first_page() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)\)", PAGES["index.md"]))
    assert set(PAGES) - {"README.md", "index.md"} <= linked


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#]+)\)", PAGES[page]):
        assert target.startswith("http") or (folder / target).exists(), target


def test_the_python_page_is_made_from_the_code() -> None:
    assert set(ORDER) == PUBLIC
    assert PAGES["api.md"] == api_page(), "run: python -m tests.api_page > docs/api.md"


def test_the_page_of_the_house_names_every_room_at_its_level() -> None:
    table = PAGES["architecture.md"].partition("## Rooms")[2].partition("## To add")[0]
    rows = re.findall(r"^\| (\d) \| (.*?) \|", table, re.MULTILINE)
    named = {room: int(level) for level, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}
    assert named == {room: level for room, level in LEVELS.items() if room != "__main__"}


def test_the_first_page_leads_to_every_other() -> None:
    linked = set(re.findall(r"\]\((\w[\w-]*\.md)\)", PAGES["index.md"]))
    assert linked == set(PAGES) - {"README.md", "index.md"}
