"""The time of one image by file and size, as a table."""

from typing import Any

from ladseg.report.sheet import Sheet


def latency_sheet(results: dict[str, Any]) -> Sheet:
    """Return a table of milliseconds; ``results`` is from :func:`ladseg.bench.delivered.bench_delivered`."""
    rows = []
    for row in results["latency"]:
        height, width = row["size"]
        times = ["-", "-"] if row["p50"] is None else [f"{row['p50']:.1f}", f"{row['p95']:.1f}"]
        rows.append([row["file"], f"{height}x{width}", *times, str(row["images"]), f"{row['bytes'] / 1e6:.2f}"])
    threads = f"threads: {results['threads']}" if results["threads"] else "threads: each runtime's choice"
    columns = ["file", "size", "p50 ms", "p95 ms", "images", "MB"]
    return Sheet(f"One image at a time on the CPU, {threads}", columns, rows)
