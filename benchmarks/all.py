"""Run all benchmarks in turn: python benchmarks/all.py ARCHIVE [SCRIPT ...]

ARCHIVE is the dataset's zip. Each SCRIPT (`cells`, `engine`, ...) selects one benchmark; the default is all. The output
is also written to benchmarks/latest.md, below each command, and time_to_accuracy.png is redrawn. Models that are in
time_to_accuracy.csv are not trained again: delete it to measure them all anew, which takes about three hours on two
cores with bfloat16. The other benchmarks take 80 minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lab

HERE = Path(__file__).parent
COMMANDS = """
layers
torch_step 5
stand_in
intervals
overhead 10 3
overhead 40 1
cells 1 3 10 30
workers 4 2
scale 1000 10000 100000
prediction 3 ARCHIVE
engine ARCHIVE 2
time_to_accuracy --seeds 1 2 3 4 5 --precision mixed_bfloat16 float32 -- sprint
time_to_accuracy --seeds 31415 -- summit tutorial exercise exercise-prose
"""


def main(archive: str, *scripts: str) -> None:
    commands = [line.split() for line in COMMANDS.split("\n") if line and (not scripts or line.split()[0] in scripts)]
    with tempfile.TemporaryDirectory() as temporary, (HERE / "latest.md").open("w") as latest:

        def echo(line: str) -> None:
            for stream in (sys.stdout, latest):
                print(line, file=stream, flush=True)

        folder = lab.clone(Path(temporary) / "clone", lambda tree: lab.use_archive(tree, archive))
        lab.cost(["dvc", "repro", "prepare"], folder)  # time_to_accuracy.py trains on this data
        for number, (script, *arguments) in enumerate(commands, 1):
            echo(f"## {number} of {len(commands)}: `python benchmarks/{script}.py {' '.join(arguments)}`\n")
            resolved = [str(Path(archive).resolve()) if argument == "ARCHIVE" else argument for argument in arguments]
            start = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, str(HERE / f"{script}.py"), *resolved],
                cwd=folder,
                env=lab.environment(),
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            for line in process.stdout:
                echo(line.rstrip())
            if process.wait() != 0:
                raise SystemExit(f"{script}.py failed; the output so far is in {latest.name}")
            echo(f"\n{(time.monotonic() - start) / 60:.0f} minutes.\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
