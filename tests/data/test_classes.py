"""Class lists as other tools write them: understood with the ids that those tools mean, or refused by their line."""

from pathlib import Path

import pytest

from ladseg.data.classes import read_classes
from ladseg.errors import DataError

NAMES = ("background", "road", "car")
COLORS = ((0, 0, 0), (128, 64, 128), (0, 0, 142))

# File name, content, whether it gives colours. All of them mean the ids 0 background, 1 road, 2 car.
UNDERSTOOD = {
    "names": ("c.txt", "background\n road \n\ncar\n", False),
    "names with a byte-order mark and carriage returns": ("c.txt", "\ufeffbackground\r\nroad\r\ncar\r\n", False),
    "comments": ("c.txt", "# id order\nbackground\nroad\n# vehicles\ncar\n", False),
    "labelme": ("labels.txt", "__ignore__\nbackground\nroad\ncar\n", False),
    "cvat": (
        "labelmap.txt",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\ncar:0,0,142::\n",
        True,
    ),
    "camvid's label_colors": ("c.txt", "0 0 0\tbackground\n128 64 128\troad\n0 0 142\tcar\n", True),
    "name and colour": ("c.txt", "background 0 0 0\nroad 128 64 128\ncar 0 0 142\n", True),
    "ids in front": ("c.txt", "0 background\n1 road\n2 car\n", False),
    "ids with colons": ("c.txt", "0: background\n1: road\n2: car\n", False),
    "ids with commas, out of order": ("c.txt", "2, car\n0, background\n1, road\n", False),
    "yaml lines": ("c.txt", "- background\n- road\n- car\n", False),
    "yaml list": ("c.yaml", "[background, road, car]\n", False),
    "ultralytics list": ("data.yaml", "path: x\nnc: 3\nnames: [background, road, car]\n", False),
    "ultralytics mapping": ("data.yaml", "names:\n  0: background\n  1: road\n  2: car\n", False),
    "hugging face": ("config.json", '{"id2label": {"0": "background", "1": "road", "2": "car"}}', False),
    "json list": ("c.json", '["background", "road", "car"]', False),
    "roboflow": ("_classes.csv", "Pixel Value, Class\n0, background\n1, road\n2, car\n", False),
    "class_dict": ("c.csv", "name,r,g,b\nbackground,0,0,0\nroad,128,64,128\ncar,0,0,142\n", True),
    "class_dict without heading": ("c.csv", "background,0,0,0\nroad,128,64,128\ncar,0,0,142\n", True),
    "ids and colours": (
        "c.csv",
        "id,name,red,green,blue\n0,background,0,0,0\n1,road,128,64,128\n2,car,0,0,142\n",
        True,
    ),
    "csv of ids": ("c.csv", "0,background\n1,road\n2,car\n", False),
    "csv of names and ids": ("c.csv", "name,id\ncar,2\nroad,1\nbackground,0\n", False),
    "csv of names": ("c.csv", "name\nbackground\nroad\ncar\n", False),
}

# File name, content, and what the refusal names.
REFUSED = {
    "ids from 1": ("c.txt", "1 road\n2 car\n", "line 1 gives 'road' the id 1 where 0 is next"),
    "ids with a gap": (
        "_classes.csv",
        "Pixel Value,Class\n0,bg\n2,car\n",
        "row 3 gives 'car' the id 2 where 1 is next",
    ),
    "an id twice": ("c.csv", "0,bg\n1,road\n1,car\n", "row 3 gives 'car' the id 1 where 2 is next"),
    "ids here and there": ("c.txt", "0 background\nroad\n", "line 1 '0 background' starts with a number"),
    "python": ("c.txt", "[\n'road',\n'car',\n]\n", r"line 1 '\[' looks like code"),
    "python in one line": ("c.txt", "['road', 'car']\n", "line 1 .* looks like code"),
    "name = value": ("c.txt", "road = 1\ncar = 2\n", "line 1 'road = 1' holds more than a name"),
    "some cvat lines": ("c.txt", "background:0,0,0::\nroad\n", "line 1 'background:0,0,0::' ends in the middle"),
    "labelme's ignore in the middle": ("c.txt", "road\n__ignore__\n", "line 2 '__ignore__' is not a class name"),
    "a name twice": ("c.txt", "road\ncar\nroad\n", "line 3: class 'road' stands twice"),
    "yaml booleans": ("c.yaml", "- yes\n- road\n", "it holds True; put names .* in quotes"),
    "yaml of something else": ("c.yaml", "train: images\n", "neither a list of class names nor a mapping"),
    "broken yaml": ("c.yaml", "names: [a", "can't be read as YAML"),
    "a colour out of range": ("c.csv", "road,0,0,256\ncar,0,0,1\n", "row 1 'road,0,0,256' is not name,r,g,b"),
    "a short row": ("c.csv", "name,r,g,b\nroad,1,2,3\ncar,0\n", "row 3 'car,0' is not name,r,g,b"),
    "one class": ("c.txt", "crack\n", r"one class can't be learned.*classes: \[background, crack\]"),
    "labelme's ignore and one class": ("c.txt", "__ignore__\ncrack\n", r"classes: \[background, crack\]"),
    "nothing but comments": ("c.txt", "# road\n", "names no class"),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_the_ids_are_those_of_the_tool(name: str, tmp_path: Path) -> None:
    file, content, colored = UNDERSTOOD[name]
    (tmp_path / file).write_text(content, newline="")
    assert read_classes(str(tmp_path / file)) == (NAMES, COLORS if colored else None)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_by_its_line(name: str, tmp_path: Path) -> None:
    file, content, words = REFUSED[name]
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        read_classes(str(tmp_path / file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "words"),
    [(["crack"], r"one class can't be learned.*\[background, crack\]"), (["a", "b", "a"], "entry 3: class 'a' stands")],
)
def test_lists_in_a_recipe(classes: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_classes(classes)


def test_names_may_hold_what_a_sentence_holds(tmp_path: Path) -> None:
    """ADE20K's names hold commas and semicolons; others hold brackets."""
    names = ("door; double door", "wall, building", "[red]thing", "<b>", "traffic light (off)", "50s house")
    (tmp_path / "c.txt").write_text("\n".join(names[:-1]))
    assert read_classes(str(tmp_path / "c.txt"))[0] == names[:-1]
