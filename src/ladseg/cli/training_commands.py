"""The commands that train, and those that report on trainings."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ladseg.cli.parser import Commands, add_sharing_options, lengths, path, seeds, setting
from ladseg.cli.terminal import print_line, print_paragraph, print_tables, terminal_width
from ladseg.errors import RecipeError

if TYPE_CHECKING:
    from ladseg.recipe import Recipe


def add_commands(command: Commands) -> None:
    """Add demo, train, compare, report and paper."""
    demo = command(
        "demo",
        _demo,
        "train on built-in scenes: about five minutes on two cores",
        takes_recipe_keys=True,
        lists_keys_of="demo",
        resumes=True,
    )
    demo.add_argument("--out", default="runs/demo", type=path, metavar="DIR", help="the folder (default: runs/demo)")

    train = command(
        "train",
        _train,
        "train teacher, student and control from a recipe; repeat the command to resume",
        takes_recipe_keys=True,
        lists_keys_of="default",
        resumes=True,
    )
    train.add_argument("recipe", metavar="RECIPE", help="a YAML file, or a name that 'ladseg recipes' lists")
    _add_teacher_from(train)

    compare = command(
        "compare",
        _compare,
        "train several methods with several seeds and compare them; repeat the command to resume",
        takes_recipe_keys=True,
        resumes=True,
        epilog="A method is none, none-4x (none for 4 times the steps), none-long (none for LAD's total compute), "
        "none-ema, none-long-ema (none and none-long with averaged weights), snapshot "
        "(half way the student becomes its own teacher), self (taught by the plain student), lad, "
        "lad-warm (LAD from the trained plain student) or a method of docs/methods.md. A distiller may name its "
        "teacher: kd+label, kd+self (the student's network without a label), kd+MODEL. "
        "kd+shuffled, lad+noise and the like are placebos: another image's label, or noise.\n"
        "Every key of a recipe can be set here too, such as --schedule.iterations 1000.",
    )
    compare.add_argument("recipe", metavar="RECIPE", help="a YAML file, or a name that 'ladseg recipes' lists")
    compare.add_argument(
        "--methods", metavar="A,B,C", default="none,none-long,lad", help="(default: none,none-long,lad)"
    )
    compare.add_argument("--seeds", metavar="0,1,2", default="0,1,2", type=seeds, help="(default: 0,1,2)")
    compare.add_argument(
        "--plain-lengths",
        metavar="1,2,4,8",
        default="1,2,4,8",
        type=lengths,
        help="the plain curve: train the student alone for these multiples of the schedule too (default: 1,2,4,8)",
    )
    _add_teacher_from(compare)
    compare.add_argument("--teacher", metavar="MODEL", help="the teacher of distillers that name none (default: self)")
    compare.add_argument("--teacher-weights", type=path, metavar="FILE", help="pretrained weights that it starts from")
    add_sharing_options(compare)
    compare.add_argument(
        "--launch", metavar="local:N", help="start N workers and summarise; slurm:N submits them as an array of jobs"
    )
    compare.add_argument(
        "--slurm",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a setting of submitit for --launch slurm, such as slurm_partition=gpu or timeout_min=240; repeatable",
    )
    compare.add_argument("--out", type=path, metavar="DIR", help="the comparison's folder (default: runs/NAME-compare)")

    report = command("report", _report, "write the report of a finished run or comparison again")
    report.add_argument("run_folder", type=path, metavar="RUN", help="its folder")

    paper = command("paper", _paper, "print the figures of the paper's tables beside those of your comparisons")
    paper.add_argument("comparisons", nargs="*", type=path, metavar="DIR", help="folders of 'ladseg compare'")


def _add_teacher_from(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--teacher-from",
        type=path,
        metavar="RUN",
        help="distil from the teacher of a finished run, or its student if it trained none, instead of training one: "
        "the run's folder or a file",
    )


def _draw_demo_scenes(name: str, recipe: "Recipe") -> None:
    """Make the built-in scenes, where the ready recipe ``demo`` is to find them in its own place."""
    from ladseg.data import write_demo_scenes
    from ladseg.recipe_files import load_recipe

    if name == "demo" and recipe.data.root == load_recipe(name).data.root:
        write_demo_scenes(recipe.data.root)


def _demo(known: argparse.Namespace, keys: list[str]) -> None:
    from ladseg.data import write_demo_scenes
    from ladseg.measure.environment import is_main_process
    from ladseg.recipe_files import load_recipe

    if Path(known.out).is_file():
        raise RecipeError(f"--out {known.out} is a file; name a folder")
    root = Path(known.out) / "data"
    overrides = [
        "--out",
        known.out,
        "--data.root",
        str(root),
        "--data.classes",
        str(root / "classes.txt"),
        *keys,
    ]
    recipe = load_recipe("demo", overrides)
    print_line(f"writing the demo scenes to {root}")
    write_demo_scenes(root)
    _run(recipe)
    if is_main_process():
        print_line("next: open that report, then try your own data:")
        print_line("  ladseg init path/to/data --out mine.yaml")
        print_line("  ladseg train mine.yaml")


def _train(known: argparse.Namespace, keys: list[str]) -> None:
    recipe, keys = _asked_for(known, keys)
    if known.teacher_from:
        _refuse_no_lesson(known.recipe, recipe)
        _say_what_is_unread(keys[::2])
        _warn_of_a_twin(Path(known.teacher_from), recipe, [recipe.seed])
    _draw_demo_scenes(known.recipe, recipe)
    _run(recipe)


def _asked_for(known: argparse.Namespace, keys: list[str]) -> tuple["Recipe", list[str]]:
    """Return the recipe of the command line, with the teacher of ``--teacher-from`` if it names one, and its keys."""
    from ladseg.recipe_files import load_recipe

    recipe = load_recipe(known.recipe, keys)
    if known.teacher_from:
        keys = taught_by(Path(known.teacher_from), keys, recipe)
        recipe = load_recipe(known.recipe, keys)
    return recipe, keys


def taught_by(run: Path, keys: list[str], recipe: "Recipe") -> list[str]:
    """Return the command line's keys with those that take a finished run's teacher.

    Args:
        run: The run's folder, or a file.
        keys: The keys of the command line.
        recipe: What they and the recipe's file come to; what it says of another start of the teacher is taken back.

    Raises:
        RecipeError: The command line names a teacher of its own, or there is none.
    """
    from ladseg.runs.finished_teacher import teacher_file_of

    for key in ("--teacher.weights", "--teacher.train"):
        if key in keys[::2]:
            raise RecipeError(f"--teacher-from and {key} both say where the teacher comes from; leave one of them out")
    started = [*["--teacher.warm_start", "null"] * bool(recipe.teacher.warm_start), "--teacher.snapshot", "null"]
    return [*started, *keys, "--teacher.weights", str(teacher_file_of(run)), "--teacher.train", "false"]


def _say_what_is_unread(flags: list[str]) -> None:
    """Name the keys of the command line that say how to train a teacher, where it is trained already."""
    from ladseg.recipe_checks import OF_LABEL, OF_TRAINING

    unread = [flag for flag in flags if flag.removeprefix("--teacher.") in (*OF_LABEL, *OF_TRAINING)]
    if unread:
        print_line(f"no effect, because the teacher of --teacher-from is finished: {', '.join(unread)}")


def _refuse_no_lesson(source: str, recipe: "Recipe") -> None:
    if recipe.distill.method == "none":
        raise RecipeError(
            f"{source}: distill.method is none, so no student would learn from --teacher-from; "
            "add --distill.method cwd or another method"
        )


def _warn_of_a_twin(run: Path, recipe: "Recipe", seeds: list[int]) -> None:
    from ladseg.runs.finished_teacher import twin_of

    twin = twin_of(run, recipe)
    if twin is not None and twin[0] in seeds:
        print_line(f"warning: {run} {twin[1]}; take other seeds, such as {max(seeds) + 1}")


def _run(recipe: "Recipe") -> None:
    from rich.console import Console

    from ladseg.data.memory import keep_freed_memory
    from ladseg.report.run_tables import pull_remark, results_table, start_remark, teacher_remark
    from ladseg.report.verdict import run_verdict
    from ladseg.workflows import train

    keep_freed_memory()
    results = train(recipe, log=print_line)
    if results is not None:
        Console(markup=False).print(results_table(results))
        remarks = start_remark(results), teacher_remark(results), pull_remark(results)
        for line in filter(None, (run_verdict(results).sentence, *remarks)):
            print_paragraph(line)
        print_line(f"weights: {recipe.folder / 'student.safetensors'}")
        print_line(f"picture: {recipe.folder / 'picture.png'}")
        print_line(f"report:  {recipe.folder / 'report.html'}")


def _compare(known: argparse.Namespace, keys: list[str]) -> None:
    from dataclasses import replace

    from ladseg.comparison.methods import default_teacher, make_method, with_one_start
    from ladseg.data.memory import keep_freed_memory
    from ladseg.report.comparison_tables import compare_tables, verdict_lines
    from ladseg.workflows import compare

    keep_freed_memory()
    recipe, keys = _asked_for(known, keys)
    if known.teacher_from:
        _warn_of_a_twin(Path(known.teacher_from), with_one_start(recipe), known.seeds)
    methods = [word.strip() for word in known.methods.split(",")]
    for word in methods:
        make_method(recipe, word, default_teacher(recipe))  # a name that is wrong is told before scenes are drawn
    _draw_demo_scenes(known.recipe, recipe)
    folder = Path(known.out or f"runs/{recipe.name}-compare")
    if known.launch and not _launch(known, keys, folder):
        return
    results = compare(
        replace(recipe, out=str(folder)),
        methods,
        known.seeds,
        log=print_line,
        teacher=known.teacher,
        teacher_weights=known.teacher_weights,
        only=known.cell,
        plain_lengths=known.plain_lengths,
        worker=known.worker,
    )
    if results is not None:
        print_tables(compare_tables(results, terminal_width()))
        for line in verdict_lines(results):
            print_paragraph(line)
        print_line(f"written: {folder}/results.json, .md, .tex and .png")
        print_line(f"report:  {folder}/report.html")


def _launch(known: argparse.Namespace, keys: list[str], folder: Path) -> bool:
    """Start workers of this comparison; return whether they have ended."""
    from ladseg.comparison.launch import launch

    words = ["compare", known.recipe, "--out", str(folder), "--methods", known.methods]
    words += ["--seeds", ",".join(map(str, known.seeds)), "--plain-lengths", ",".join(map(str, known.plain_lengths))]
    words += ["--teacher", known.teacher] if known.teacher else []
    words += ["--teacher-weights", known.teacher_weights] if known.teacher_weights else []
    words += [word for method, seed in known.cell or () for word in ("--cell", f"{method}:{seed}")]
    return launch(known.launch, [*words, *keys], folder, dict(map(setting, known.slurm)))


def _report(known: argparse.Namespace, keys: list[str]) -> None:
    from ladseg.commands.report import write_report

    print_line(f"report: {write_report(Path(known.run_folder))}")


def _paper(known: argparse.Namespace, keys: list[str]) -> None:
    from ladseg.comparison.cells import trained_recipes
    from ladseg.recipe_files import load_recipe
    from ladseg.report.paper_tables import Compared, paper_tables
    from ladseg.results import read_comparison

    compared = []
    for folder in map(Path, known.comparisons):
        results = read_comparison(folder)
        compared.append(Compared(results, load_recipe(folder / "recipe.yaml"), trained_recipes(folder, results)))
    print_tables(paper_tables(compared))
