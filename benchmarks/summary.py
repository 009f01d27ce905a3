"""The table in docs/performance.md: ``python -m benchmarks.summary results/reference/bench.csv`` prints it."""

import sys

import pandas as pd

ROWS = (
    ("naive LeNet, updates per second against Avalanche's Naive", "naive_lenet_vs_avalanche", "{:.1f} times", "8"),
    ("SupSup LeNet step (s=100), two tasks at a time: share of its roofline", "train_lenet_roofline_fraction", "{:.0%}", "80 %"),
    ("the same with the data path", "train_lenet_with_data_roofline_fraction", "{:.0%}", ""),
    ("the same: share of the bfloat16 peak", "train_lenet_peak_fraction", "{:.0%}", "16 %"),
    ("SupSup FC step (s=500): share of its roofline", "train_fc_roofline_fraction", "{:.0%}", "80 %"),
    ("the same with the data path", "train_fc_with_data_roofline_fraction", "{:.0%}", ""),
    ("the same: share of the bfloat16 peak", "train_fc_peak_fraction", "{:.0%}", "33 %"),
    ("One-Shot at 2,500 masks, per image", "oneshot_2500_milliseconds_per_image", "{:.1f} ms", ""),
    ("against the paper's formula on stacked float masks", "oneshot_2500_vs_stacked", "{:.0f} times", "100"),
    ("against the same as a matrix product", "oneshot_2500_vs_stacked_product", "{:.0f} times", ""),
    ("against batched exhaustive search", "oneshot_2500_vs_exhaustive", "{:.1f} times", "1"),
    ("share of the bfloat16 peak", "oneshot_2500_peak_fraction", "{:.0%}", "50 %"),
    ("a check for a new task at 2,500 masks (NNs)", "nns_check_2500_seconds", "{:.3f} s", ""),
    ("a mask on disk (LeNet, s=500)", "bytes_per_task", "{:,.0f} bytes", ""),
    ("peak resident memory at 2,500 masks", "figure4_peak_resident_megabytes", "{:,.0f} MB", "3,000 MB"),
    (
        "ResNet-18 (bfloat16): a supermask step against the dense step beside it",
        "resnet18_supermask_step_vs_dense",
        "{:.2f} times",
        "1.3",
    ),
    ("a mask's share of a forward pass of ResNet-50", "resnet50_mask_overhead", "{:.1%}", ""),
    ("Figure 4 of 2,500 tasks (GNu and NNs), from slopes", "figure4_hours_from_slopes", "{:.1f} h", "5 h"),
)
"""What it is, its name in the file, how it is written, and the target, if there is one."""


def summary(frame: pd.DataFrame) -> str:
    """The table in Markdown."""
    values = frame.set_index("name")["value"]
    lines = ["| what | measured | target |", "|---|---:|---:|"]
    return "\n".join([*lines, *(f"| {what} | {form.format(values[name])} | {target} |" for what, name, form, target in ROWS)])


if __name__ == "__main__":
    print(summary(pd.read_csv(sys.argv[1])))
