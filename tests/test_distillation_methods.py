"""The table of methods, and all that must agree with it."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch import Tensor, nn

from ladseg import distillers
from ladseg.distillation_methods import METHODS, TERM_WEIGHTS
from ladseg.errors import ModelError, RecipeError
from ladseg.recipe import Distill
from ladseg.recipe_files import keys_help, make_recipe
from ladseg.runs.networks import check_networks

PAGE = (Path(__file__).parents[1] / "docs/methods.md").read_text(encoding="utf-8")


def test_registry_exports_choices_and_page_name_the_same_methods() -> None:
    assert f"(one of {', '.join(METHODS)}; default: 'cwd')" in " ".join(keys_help().split())
    sections = re.findall(r"^### (\S+)$", PAGE, re.MULTILINE)
    assert sorted(sections) == sorted(METHODS)
    values = {name: getattr(distillers, name) for name in distillers.__all__}
    exported = {name for name, value in values.items() if inspect.isclass(value) and issubclass(value, nn.Module)}
    assert exported - {"Distiller", "Combined"} == {method.class_name for method in METHODS.values()}


@pytest.mark.parametrize("name", METHODS)
def test_a_class_has_the_defaults_of_the_table(name: str) -> None:
    method = METHODS[name]
    assert method.load() is getattr(distillers, method.class_name)
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(method.load()).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    expected = {"tau": method.tau, "layer": method.layer} | {k: option.default for k, option in method.options.items()}
    assert defaults == {key: value for key, value in expected.items() if value is not None}
    assert all(term in TERM_WEIGHTS for term in method.terms)


def test_every_weight_is_some_methods() -> None:
    assert {term for method in METHODS.values() for term in method.terms} == set(TERM_WEIGHTS)


@pytest.mark.parametrize("name", METHODS)
def test_the_page_says_what_a_method_gives(name: str) -> None:
    section = PAGE.split(f"\n### {name}\n")[1].split("\n### ")[0].split("\n## ")[0]
    for word in METHODS[name].terms:
        assert f"`{word}`" in section, f"{name}: {word}"
    for option, value in METHODS[name].options.items():
        assert f"`options: {{{option}: {str(value.default).lower()}}}`" in section, f"{name}: {option}"


def test_names_are_known_without_torch() -> None:
    code = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('m', sys.argv[1]); m = u.module_from_spec(s); "
        "sys.modules['m'] = m; s.loader.exec_module(m); assert 'torch' not in sys.modules; print(len(m.METHODS))"
    )
    file = inspect.getfile(sys.modules["ladseg.distillation_methods"])
    printed = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True).stdout
    assert int(printed) == len(METHODS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "cdw"}, "distill.method is 'cdw'; it must be one of none, kd, feature"),
        ({"method": "kd", "layer": "head"}, "distill.layer: kd does not read it; leave it out"),
        ({"method": "feature", "tau": 2.0}, "distill.tau: feature does not read it"),
        ({"method": "none", "weight": 1.0}, "distill.weight: none does not read it"),
        ({"method": "cirkd", "term_weights": {"cirkd_pixels": 1.0}}, "did you mean 'cirkd_pixel'?"),
        ({"method": "kd", "options": {"masked": 0.5}}, "distill.options: kd has no 'masked', nor any other"),
        ({"method": "cwd", "recipe": "full"}, "distill.recipe is no longer a key; cwd with all .* is method: cwd-full"),
        ({"features_weight": 50.0}, "no longer a key; write a list: .*method: cwd-features, weight: 50"),
        ({"method": "cwd", "also": [{"method": "kd"}]}, "distill.also is no longer a key; write a list"),
        ([{"method": "cwd"}, {"method": "kd", "also": []}], "distill.also is no longer a key; write a list"),
        ([{"method": "cwd"}, {"method": "kd", "layer": "head"}], "distill.layer: kd does not read it"),
        ([{"method": "cwd"}, {"method": "kdd"}], "distill"),
    ],
)
def test_keys_that_a_method_does_not_read_are_refused(values: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        make_recipe({"distill": values})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--distill.also", "[{method: kd}]"], "command line: distill.also is no longer a key"),
        (["--distill.recipe", "full"], "method: cwd-full"),
        (["--distill.features_weight=50"], "cwd-features"),
        (["--distill", "{method: cwd, also: [{method: kd}]}"], "distill.also is no longer a key"),
        (["--distill", "[{method: cwd}, {method: kd, recipe: full}]"], "method: cwd-full"),
    ],
)
def test_former_spellings_on_the_command_line_name_the_new_one(words: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe({}, words)


def test_a_method_of_the_command_line_keeps_its_own_weight() -> None:
    """What the file says of another method is not the new one's."""
    file = {"distill": {"method": "cwd", "weight": 5.0, "tau": 2.0, "alpha": 0.5}}
    assert make_recipe(file, ["--distill.method", "feature"]).distill == Distill(method="feature", alpha=0.5)
    assert make_recipe(file, ["--distill.method", "cwd"]).distill == make_recipe(file).distill
    several = {"distill": [{"method": "cwd", "weight": 5.0}, {"method": "at"}]}
    assert make_recipe(several, ["--distill.method", "kd"]).distill == Distill(method="kd")
    assert make_recipe(several, ["--distill.weight", "7"]).distill.also == [{"method": "at"}]


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("mgd", {"masked": 1.5}, "masked of mgd is 1.5; it is a number from 0 to 1"),
        ("mgd", {"masked": "x"}, "masked of mgd is x; it is a number from 0 to 1"),
        ("mgd", {"masked": float("nan")}, "distill.options.masked is nan; it must be a finite number"),
        ("dist", {"aux_weight": -0.4}, "aux_weight of dist is -0.4; it is a number, 0 or more"),
        ("dist", {"aux_weight": True}, "it is a number, 0 or more"),
        ("cirkd", {"group": 2.5}, "group of cirkd is 2.5; it is a whole number, 0 or more"),
        ("cirkd", {"gather": 1}, "gather of cirkd is 1; it is true or false"),
        ("cwd-full", {"divide_by": "pupil"}, "divide_by of cwd-full is pupil; it is one of student, teacher"),
        ("maskd", {"trainmode": True}, "maskd has no 'trainmode'; did you mean 'train_mode'?"),
    ],
)
def test_options_that_make_no_sense(method: str, options: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        make_recipe({"distill": {"method": method, "options": options}})
    with pytest.raises(RecipeError):
        make_recipe({"distill": [{"method": "kd"}, {"method": method, "options": options}]})


def test_options_on_the_command_line_and_in_a_list() -> None:
    words = ["--distill.method", "cirkd", "--distill.options", "{group: 2}"]
    assert make_recipe({}, words).distill.options == {"group": 2}
    several = make_recipe({"distill": [{"method": "cwd"}, {"method": "mgd", "options": {"masked": 0.5}}]})
    assert several.distill.also[0]["options"] == {"masked": 0.5}
    # Options of the file are for its own method.
    assert make_recipe({"distill": {"method": "cirkd", "options": {"group": 2}}}, words[:2]).distill.options is not None
    assert make_recipe({"distill": {"method": "mgd", "options": {"masked": 0.5}}}, words[:2]).distill.options is None


class Foreign(nn.Module):
    """A network that is not ours: it gives logits alone."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Conv2d(16, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        deep = self.deep(self.stem(image))
        logits: Tensor = self.classifier(deep * self.pool(deep).sigmoid())
        return logits


READS_A_MAP = [name for name, method in METHODS.items() if method.layer]
FOREIGN = "tests.test_distillation_methods:Foreign"


@pytest.mark.parametrize("method", READS_A_MAP)
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_missing_feature_map_is_said_before_any_training_with_a_hint_that_works(method: str, role: str) -> None:
    other = {"student": {"model": "pspnet@test_resnet"}, "teacher": {"model": FOREIGN, "label_assisted": False}}
    both = {"student": {"model": FOREIGN}}
    values = {"distill": {"method": method}, **(both if role == "student" else other)}
    with pytest.raises(ModelError, match=f"the {role} gives no such feature map") as caught:
        check_networks(make_recipe(values), 3)
    hint = re.search(r"such as (--.*)", str(caught.value))
    assert hint
    words = hint.group(1).split()
    assert words == ["--distill.layer", "backbone", f"--{role}.features", "deep"]
    check_networks(make_recipe(values, words), 3)


def test_methods_of_logits_need_no_feature_map() -> None:
    for method in METHODS.keys() - set(READS_A_MAP):
        check_networks(make_recipe({"distill": {"method": method}, "student": {"model": FOREIGN}}), 3)
