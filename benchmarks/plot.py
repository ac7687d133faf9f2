"""One picture of a run: a small bar chart per metric, the spread of the rounds on each bar."""

from __future__ import annotations

from pathlib import Path

from benchmarks.metric import Metric
from benchmarks.result import Run

COLUMNS = 3
OURS = "#0b6e99"
OTHERS = "#b8b8b8"
LIMITS = "#e3d9b8"


def draw(run: Run, path: Path) -> None:
    """Writes the picture to `path`, in the format of its suffix."""
    import matplotlib

    matplotlib.use("Agg")
    # Text stays text: the file is small and can be searched.
    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "fluidfs"
    from matplotlib import pyplot

    # A chart without any bar says less than its row in the table.
    metrics = [metric for metric in run.metrics if any(_median(run, client, metric) for client in run.rounds)]
    rows = -(-len(metrics) // COLUMNS)
    figure, grid = pyplot.subplots(rows, COLUMNS, figsize=(4.6 * COLUMNS, 2.4 * rows), squeeze=False)
    places = list(grid.flat)
    for metric, place in zip(metrics, places, strict=False):
        cells = {client: cell for client in run.rounds if (cell := run.cell(client, metric)) and cell.values}
        names = list(cells)[::-1]
        medians = [cells[name].median or 0.0 for name in names]
        spread = [
            [median - min(cells[name].values) for name, median in zip(names, medians, strict=True)],
            [max(cells[name].values) - median for name, median in zip(names, medians, strict=True)],
        ]
        place.barh(names, medians, xerr=spread, color=[_colour(name) for name in names], ecolor="#555555", capsize=2)
        arrow = "more is better" if metric.higher_is_better else "less is better"
        place.set_title(f"{metric.title}\n{metric.unit}{', ' if metric.unit else ''}{arrow}", fontsize=8)
        place.tick_params(labelsize=7)
        place.spines[["top", "right"]].set_visible(False)
    for place in places[len(metrics) :]:
        place.set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _median(run: Run, client: str, metric: Metric) -> float | None:
    cell = run.cell(client, metric)
    return None if cell is None else cell.median


def _colour(name: str) -> str:
    if name.startswith("fluidfs"):
        return OURS
    return LIMITS if name.startswith(("raw", "local")) else OTHERS
