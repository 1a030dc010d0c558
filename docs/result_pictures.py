"""Draws the picture of docs/results.md that sets the mean rank of each model against its time.

``python docs/result_pictures.py`` reads both figures from the table of that page.
"""

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

HERE = Path(__file__).parent


def ranks(page: str) -> dict[str, tuple[float, float]]:
    """Mean rank and median seconds of the processor by model; the reference is fitted with ours and shares its time."""
    rows = re.search(r"^\| over 20 sets .*?(?=\n\n)", page, re.MULTILINE | re.DOTALL)
    assert rows is not None, "docs/results.md has no table that begins with 'over 20 sets'"
    found: dict[str, tuple[float, float]] = {}
    for row in rows.group(0).splitlines()[2:]:
        name, rank, _, _, seconds, *_ = (cell.strip().strip("*") for cell in row.strip("|").split("|"))
        if "," in seconds:
            found[name] = (float(rank), float(seconds.split(",")[0]))
    return found


def main() -> None:
    """Write docs/images/rank_against_time.png."""
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for name, (rank, seconds) in ranks((HERE / "results.md").read_text(encoding="utf-8")).items():
        ours = name == "drl_density"
        colour, marker, weight = ("#0072B2", "D", "bold") if ours else ("#777777", "o", "normal")
        axes.scatter(seconds, rank, s=50, color=colour, marker=marker)
        axes.annotate(name, (seconds, rank), (7, 0), textcoords="offset points", va="center", fontweight=weight)
    axes.set(xlabel="median processor time of a fit, seconds", xlim=(-2, 66))
    axes.set(ylabel="mean rank (1 is best)", ylim=(7.6, 0.6))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "images" / "rank_against_time.png", dpi=110)


if __name__ == "__main__":
    main()
