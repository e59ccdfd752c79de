"""What the README shows works as it stands there."""

import re
from pathlib import Path

import torch
import yaml

import ladseg
from ladseg.cli import _parser
from ladseg.data import LAYOUTS
from ladseg.recipe import make_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_blocks_run() -> None:
    batch = {
        "image": torch.randn(2, 3, 32, 32),
        "label": torch.randint(0, 19, (2, 32, 32)),
        "seed": torch.tensor([1, 2]),
    }
    for code in blocks("python"):
        names = {"my_network": lambda: ladseg.build_model("pspnet@test_resnet", 19), "batch": batch}
        exec(code, names)
        assert names["losses"]["loss"].isfinite()  # type: ignore[index]


def test_yaml_blocks_are_recipe_keys() -> None:
    """Lines of the README's block and of the page of data are alternatives; so are blocks of the page of networks."""
    networks, data = ((ROOT / f"docs/{page}.md").read_text(encoding="utf-8") for page in ("models", "data"))
    alternatives = [*blocks("yaml")[0].splitlines(), *re.findall(r"```yaml\n(.*?)```", networks, re.DOTALL)]
    alternatives += [line for block in re.findall(r"```yaml\n(.*?)```", data, re.DOTALL) for line in block.splitlines()]
    recipes = [make_recipe(yaml.safe_load(text)) for text in alternatives]
    assert len(recipes) == 16
    assert all(recipe.data.layout in LAYOUTS for recipe in recipes)


def test_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    used = re.findall(r"^(make|ladseg) (\S+)", "\n".join(blocks("sh")), re.MULTILINE)
    assert {program for program, _ in used} == {"make", "ladseg"}
    for program, word in used:
        assert f"\n{word}:" in makefile if program == "make" else word in _parser()[1]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
