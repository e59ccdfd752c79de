"""The time of one image by file and size, as a table."""

from typing import Any

from ladseg.report.sheet import Sheet


def latency_sheet(results: dict[str, Any]) -> Sheet:
    """Return the results of :func:`ladseg.bench.delivered.bench_delivered` as a table of milliseconds."""
    rows = []
    for row in results["latency"]:
        height, width = row["size"]
        times = ["-", "-"] if row["p50"] is None else [f"{row['p50']:.1f}", f"{row['p95']:.1f}"]
        rows.append([row["file"], f"{height}x{width}", *times, str(row["images"]), f"{row['bytes'] / 1e6:.2f}"])
    threads = f"threads: {results['threads']}" if results["threads"] else "threads: each runtime's choice"
    columns = ["file", "size", "p50 ms", "p95 ms", "images", "MB"]
    return Sheet(f"One image at a time on the CPU, {threads}", columns, rows)
