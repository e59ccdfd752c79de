"""Names that hold control characters, markup or mathematics reach no terminal and no page as such."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ladseg.data import open_dataset
from ladseg.data.spec import DatasetSpec
from ladseg.deploy.student_header import make_header
from ladseg.errors import DataError, ModelError, RecipeError, UserError, control_character, printable
from ladseg.recipe import Data
from ladseg.recipe_files import make_recipe
from ladseg.report.comparison_page import ComparisonRecord, comparison_page
from ladseg.report.sheet import PlainTable, Sheet
from tests.made_results import comparison_results, method_row

COMMANDS = {
    "colour": "a\x1b[31mb",
    "title of the window": "a\x1b]0;b\x07",
    "clear": "\x1b[2J\x1b[H",
    "new line": "a\nb",
    "carriage return": "harmless\rharmful",
    "null": "a\0b",
    "delete": "a\x7f",
    "C1 escape": "a\x9b31mb",
    "override": "photo\u202egnp.exe",
    "isolate": "a\u2066b\u2069",
    "mark": "a\u200fb",
    "line separator": "a\u2028b",
}
SCRIPTS = ["road", "пешеход", "自転車", "नेपाली", "می\u200cروم", "x²", "no\u00a0break", "é", "🚗"]
PLAIN = [*SCRIPTS, "$\\frac{1}{0}$", "[/red]", "<b>", "a|b"]


@pytest.mark.parametrize("name", PLAIN)
def test_names_of_all_scripts_are_names(name: str) -> None:
    assert control_character(name) is None
    assert DatasetSpec(("a", name), ((0, 0, 0), (1, 1, 1))).class_names[1] == name


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_class_name_that_commands_is_refused(kind: str, data: Data, tmp_path: Path) -> None:
    """Whatever says the names: a list of the recipe, a file, a layout, a stranger's weights."""
    name = COMMANDS[kind]
    with pytest.raises(RecipeError, match=r"control characters|NUL characters"):
        make_recipe({"data": {"classes": ["a", name, "c"]}})
    classes = tmp_path / "classes.yaml"
    classes.write_text(json.dumps({"names": ["a", name, "c"]}))
    with pytest.raises(DataError, match="control character"):
        open_dataset(Data(root=data.root, classes=str(classes)), "train")
    about = {"class_names": ["a", name, "c"]}
    values = {"model": "stdc1", "num_classes": 3, "mean": [0, 0, 0], "std": [1, 1, 1], "data": about}
    with pytest.raises(ModelError, match="not 3 names without control characters") as caught:
        make_header(Path("w.safetensors"), values)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_name_is_escaped_where_it_is_shown(kind: str) -> None:
    name = COMMANDS[kind]
    assert printable(name).isprintable()
    assert str(UserError(name)).isprintable()
    sheet = Sheet(f"title {name}", ["x"], [[name]])
    table = PlainTable("x", title=name, caption=name)
    table.add_row(name)
    screen = io.StringIO()
    console = Console(file=screen, markup=False, width=200)
    console.print(table, sheet.terminal())
    made = comparison_results([method_row("none", 0.5)], name=name)
    page = comparison_page(ComparisonRecord(made, {}, f"name: {name}"))
    for text in (screen.getvalue(), sheet.markdown(), sheet.latex(), page):
        assert all(control_character(line) is None for line in text.split("\n"))


@pytest.mark.parametrize("name", ["$x$", "[/x]", "[bold]a", "<script>", "a|b", "\\frac", "{a}_^~"])
def test_markup_is_text(name: str) -> None:
    sheet = Sheet(name, ["x"], [[name]])
    screen = io.StringIO()
    Console(file=screen, markup=False, width=200).print(sheet.terminal())
    assert screen.getvalue().count(name) == 2
    assert [line.replace("\\|", "").count("|") for line in sheet.markdown().splitlines()[2:]] == [2, 2, 2]
    caption = sheet.latex().split("\n")[1]
    assert "$" not in caption.replace("\\$", "")
