"""The results of ``ladseg bench`` as tables."""

from typing import Any

from ladseg.report.sheet import Sheet

Results = dict[str, Any]


def bench_sheets(results: Results) -> list[Sheet]:
    """Return the tables of each measured part of ``results``, which :func:`ladseg.bench.bench` returned."""
    setting = results["setting"]
    height, width = setting["size"]
    batch = f"{setting['batch_size']} images of {height}x{width}, {setting['num_classes']} classes, {setting['device']}"
    sheets: list[Sheet] = []
    if "steps" in results:
        sheets += [_ratios(results["steps"], results["matrix_rate"], batch), _items(results["steps"])]
    if "loop" in results:
        sheets.append(_loop(results["loop"]))
    if "pieces" in results:
        sheets.append(_pieces(results["pieces"]))
    if "inference" in results:
        sheets.append(_inference(results["inference"]))
    if "methods" in results:
        sheets += [_methods(results["methods"]), _batches(results["batches"])]
    if "growth" in results:
        sheets += [_growth(results["growth"]), _switches(results["switches"], results["processes"])]
    return sheets


def _ratios(steps: Results, matrix_rate: float, batch: str) -> Sheet:
    rows = []
    for network, row in steps.items():
        cells = [network, f"{row['milliseconds']['plain']:.0f}"]
        for name in ("teacher", "student"):
            cells += [_spread(row["ratios"][name]), f"{row['arithmetic'][name]:.2f}"]
        cells.append(", ".join(f"{100 * rate / matrix_rate:.0f}" for rate in row["rate"].values()))
        rows.append([*cells, *(_mebibytes(row["memory"][name]) for name in ("plain", "teacher", "student"))])
    rates = f"% of {matrix_rate / 1e9:.0f} GMAC/s"
    columns = ["network", "plain ms", "teacher", "MACs", "student", "MACs", rates, "MiB plain", "teacher", "student"]
    return Sheet(f"Training steps as multiples of the plain one; {batch}", columns, rows)


def _items(steps: Results) -> Sheet:
    rows = []
    for network, row in steps.items():
        for name, items in row["items"].items():
            total = row["milliseconds"][name]
            rest = total - sum(items.values())
            words = [f"{item} {100 * value / total:.1f}" for item, value in {**items, "rest": rest}.items()]
            rows.append([network, name, ", ".join(words)])
    return Sheet("Parts of a step, % of its time", ["network", "step", "parts"], rows)


def _loop(loop: Results) -> Sheet:
    steps = loop["steps"]
    rows = [
        ["steps per second, ladseg and bare", f"{steps['fit']:.3f}, {steps['bare']:.3f}"],
        ["overhead, %", _spread(loop["overhead"], 100)],
        ["host ms per step besides the network", f"{loop['host_milliseconds']:.2f}"],
        ["ms to load a batch in the same process", f"{loop['loading']:.1f}"],
        ["waiting for it, % of the time", f"{100 * loop['waiting']:.2f}"],
    ]
    return Sheet(f"The training loop, {loop['network']}", ["", "value"], rows)


def _pieces(pieces: list[Results]) -> Sheet:
    rows = []
    for piece in pieces:
        ours = piece["forms"]["ours"]
        others = ", ".join(f"{name} {value / ours:.2f}" for name, value in piece["forms"].items() if name != "ours")
        beside = [f"{ours / piece['floor']:.2f}", f"{piece['bytes'] / 2**20:.1f}", f"{ours / piece['copying']:.2f}"]
        cells = [piece["piece"], str(piece["classes"]), f"{ours:.2f}", others, *beside]
        rows.append([*cells, _mebibytes(piece["memory"])])
    columns = ["piece", "classes", "ms", "other forms x", "x floor", "MiB moved", "x copying", "MiB needed"]
    return Sheet("Noise and losses, with gradients", columns, rows)


def _inference(rows: list[Results]) -> Sheet:
    cells = [
        [
            str(row["classes"]),
            f"{row['forward']:.2f}",
            f"{row['predict']:.2f}",
            f"{row['eval']:.2f}",
            _spread(row["ratio"]),
            _spread(row["eval_ratio"]),
            _spread(row["upsampled"]),
            _mebibytes(row["memory"]),
            _mebibytes(row["upsampled_memory"]),
        ]
        for row in rows
    ]
    columns = ["classes", "forward /s", "predict /s", "eval /s", "predict x forward", "eval", "upsampled whole"]
    return Sheet("Prediction, images per second", [*columns, "MiB", "upsampled whole MiB"], cells)


def _methods(methods: Results) -> Sheet:
    lad = methods["lad"]["milliseconds"]
    rows = [
        [name, f"{row['milliseconds']:.0f}", f"{row['milliseconds'] / lad:.2f}", _mebibytes(row["memory"])]
        for name, row in sorted(methods.items(), key=lambda pair: pair[1]["milliseconds"])
    ]
    return Sheet("The student's step under each method", ["method", "ms", "x lad", "MiB"], rows)


def _batches(batches: Results) -> Sheet:
    rows = [
        [name, *([_mebibytes(row["image"]), _mebibytes(row["fixed"]), str(row["batch"])] if row else ["", "", ""])]
        for name, row in batches.items()
    ]
    return Sheet("Batches that fit the free memory", ["step", "MiB per image", "MiB fixed", "batch"], rows)


def _growth(growth: Results) -> Sheet:
    rows = [
        [name, ", ".join(f"{amount}: {ms:.0f}" for amount, ms in row["milliseconds"].items()), f"{row['exponent']:.2f}"]
        for name, row in growth.items()
    ]
    return Sheet("How the plain step's time grows, at half the size", ["against", "ms", "exponent"], rows)


def _switches(switches: Results, processes: Results) -> Sheet:
    rows = [[name, _spread(row) if isinstance(row, dict) else row] for name, row in switches.items()]
    if processes:
        rows.append(["two processes, images per second", f"{processes['gain']:.2f}"])
    return Sheet("As multiples of the step in float32, channels_last, one process", ["", "x"], rows)


def _spread(values: dict[str, float], factor: float = 1) -> str:
    median, low, high = (factor * values[name] for name in ("median", "low", "high"))
    return f"{median:.2f} ({low:.2f}..{high:.2f})"


def _mebibytes(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f}"
