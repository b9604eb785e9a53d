"""All benchmarks, one after the other: python benchmarks/all.py ARCHIVE [SCRIPT ...]

ARCHIVE is the data set's zip; each SCRIPT (`cells`, `engine`, ...) picks one, and none means all. What they print goes
to benchmarks/latest.md as well, under the command; time_to_accuracy.png is drawn again. Cells that
time_to_accuracy.csv holds are not trained again: delete it to measure them anew. That takes about three hours on two
cores, and the others about two.
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
stand_in
overhead 10 3
overhead 40 1
cells 1 3 10 30
scale 1000 10000 100000
prediction 3 ARCHIVE
engine ARCHIVE 3
time_to_accuracy --seeds 1 2 3 4 5 --precision mixed_bfloat16 float32 -- sprint
time_to_accuracy --seeds 31415 1 2 -- summit
time_to_accuracy --seeds 31415 -- sprint tutorial exercise exercise-prose
"""


def main(archive: str, *chosen: str) -> None:
    commands = [line.split() for line in COMMANDS.split("\n") if line and (not chosen or line.split()[0] in chosen)]
    with tempfile.TemporaryDirectory() as place, (HERE / "latest.md").open("w") as latest:

        def say(line: str) -> None:
            for to in (sys.stdout, latest):
                print(line, file=to, flush=True)

        folder = lab.clone(Path(place) / "clone", lambda tree: lab.archive(tree, archive))
        lab.cost(["dvc", "repro", "prepare"], folder)  # time_to_accuracy.py trains on what it finds here
        for number, (script, *arguments) in enumerate(commands, 1):
            say(f"## {number} of {len(commands)}: `python benchmarks/{script}.py {' '.join(arguments)}`\n")
            filled = [str(Path(archive).resolve()) if argument == "ARCHIVE" else argument for argument in arguments]
            since = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, str(HERE / f"{script}.py"), *filled],
                cwd=folder,
                env=lab.environment(),
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            for line in process.stdout:
                say(line.rstrip())
            if process.wait() != 0:
                raise SystemExit(f"{script}.py failed; what the others printed is in {latest.name}")
            say(f"\n{(time.monotonic() - since) / 60:.0f} minutes.\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
