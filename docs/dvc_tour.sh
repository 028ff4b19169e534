#!/usr/bin/env bash
# What DVC gives this project, shown in a throw-away copy of it: minutes of two cores, nothing of yours is touched.
# docs/dvc.md explains each step; tests/pipeline_run/ holds the same promises as tests.
#
#   docs/dvc_tour.sh                 at the size of a toy
#   docs/dvc_tour.sh --full          with the params as they are (about ten minutes)
set -euo pipefail
project="$(cd "$(dirname "$0")/.." && pwd)"
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
export PATH="$project/.venv/bin:$PATH" OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" DVC_NO_ANALYTICS=1
export GIT_AUTHOR_NAME=tour GIT_AUTHOR_EMAIL=tour GIT_COMMITTER_NAME=tour GIT_COMMITTER_EMAIL=tour
export MOLAR_SCRATCH="$place/scratch"

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }

say "A copy of the code, as a repository of its own"
mkdir "$place/mine"
(cd "$project" && git ls-files -z --cached --others --exclude-standard | tar --null --files-from - -cf - --ignore-failed-read 2>/dev/null) \
  | tar -xf - -C "$place/mine"
cd "$place/mine"
git init -q -b main
[[ "${1:-}" == --full ]] || python -m tests.pipeline_run.project .
git add --all && git commit -qm code

say "1. The whole pipeline, stage by stage"
show dvc repro
git add --all && git commit -qm "a run"

say "2. Again: nothing has changed, nothing runs"
show dvc repro

say "3. An experiment reruns only what it touches: train_dueg, build_index, evaluate"
show dvc exp run -q --name unaligned -S train_dueg.alignment.weight=0
show dvc params diff
show dvc metrics diff

say "4. Back again: restored from the run-cache (-S has edited params.yaml, so that goes back first)"
git checkout -q HEAD -- params.yaml dvc.lock
show dvc repro

say "5. A param that changes no byte downstream: ingest runs, nothing after it does"
sed -i.bak 's/max_quarantine: .*/max_quarantine: 0.06/' params.yaml && rm params.yaml.bak
show dvc repro
git checkout -q HEAD -- params.yaml dvc.lock && dvc checkout -q

say "6. Killed in the middle: the next run goes on from its checkpoint"
sed -i.bak 's/^seed: 0/seed: 1/' params.yaml && rm params.yaml.bak
set -m
dvc repro -q train_dueg & running=$!
until compgen -G "$MOLAR_SCRATCH/train_dueg/*/*.safetensors" > /dev/null || ! kill -0 $running 2> /dev/null; do sleep 0.05; done
kill -KILL -- -$running 2> /dev/null || echo "(the toy had already finished)"
wait $running 2> /dev/null || true
set +m
show find "$MOLAR_SCRATCH/train_dueg" -name '*.safetensors'
show dvc repro train_dueg
git checkout -q HEAD -- params.yaml dvc.lock && dvc checkout -q

say "7. A colleague: push, clone, pull, and nothing is left to run"
show dvc remote add --default shared "$place/remote"
git commit -qam "a remote"
show dvc push
show git clone -q "$place/mine" "$place/theirs"
cd "$place/theirs"
show dvc pull
show dvc repro

say "Done"
