#!/bin/bash
#SBATCH --job-name=car-or-truck
#SBATCH --array=1-3
#SBATCH --cpus-per-task=2
#SBATCH --requeue
#SBATCH --open-mode=append
# The n-th model of params.yaml in each task. From a clone that all nodes see, with everything committed and the images in
# DVC's remote (dvc push prepare):
#   sbatch --array=1-$(dvc stage list --name-only | grep -c ^train@) --export=ALL,COMMIT=$(git rev-parse HEAD) examples/slurm.sh
set -eu
clone=${TMPDIR:-/tmp}/car-or-truck-$SLURM_ARRAY_JOB_ID-$SLURM_ARRAY_TASK_ID
rm -rf "$clone"  # of a task that was requeued; its checkpoint is in DVC's remote
trap 'rm -rf "$clone"' EXIT
git clone --quiet "$SLURM_SUBMIT_DIR" "$clone"
cd "$clone"
git checkout --quiet --detach "$COMMIT"  # a task may start hours after it was submitted
[ ! -f "$SLURM_SUBMIT_DIR/.dvc/config.local" ] || cp "$SLURM_SUBMIT_DIR/.dvc/config.local" .dvc/  # the remote's credentials
export PATH="$SLURM_SUBMIT_DIR/.venv/bin:$PATH" PYTHONPATH="$clone/src"
dvc --cd "$SLURM_SUBMIT_DIR" remote list | while read -r name url _; do
    dvc remote modify --local "$name" url "$url"  # the clone would look for a relative one beside itself
done
car-or-truck work "$(dvc stage list --name-only | sed -n 's/^train@//p' | sed -n "${SLURM_ARRAY_TASK_ID}p")"
