"""Draw the training curve from the log.

    python -m demo.curve demo/training.csv docs/images/training.png
    python -m demo.curve demo/joint_training.csv docs/images/joint_training.png
"""

import csv
import sys
from pathlib import Path

CURVES = {
    "PSNR in the mask, one prediction from pure noise (dB)": ("psnr", "psnr_another_object", "psnr_blank"),
    "PSNR outside": ("psnr_outside",),
    "correspondence within one patch": ("accuracy_output_2", "accuracy_output_3"),
    "consistency loss, held out": ("consistency",),
}


def draw(log: Path, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(csv.DictReader(log.open(newline="")))
    logged = {title: [name for name in names if name in rows[0]] for title, names in CURVES.items()}
    curves = {title: names for title, names in logged.items() if names}
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, names) in zip(figure.subplots(1, len(curves)), curves.items(), strict=True):
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
            axes.plot(*zip(*points, strict=True), label=name.replace("_", " "))
        axes.set_title(title, fontsize=8)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
