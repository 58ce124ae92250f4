#!/usr/bin/env bash
# Trains a small CondConv-EfficientNet on handwritten digits, evaluates it, exports it, and classifies one image.
# Resumes an interrupted run. ./scripts/quickstart.sh FOLDER writes the results to another folder.
set -euo pipefail
cd "$(dirname "$0")/.."
workdir=${1:-runs/quickstart}
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}

# shellcheck source=scripts/environment.sh
. scripts/environment.sh
use_environment cpu

echo "== training on the digits of scikit-learn"
python train.py --config=configs/quickstart.py --workdir="$workdir"
echo "== evaluating the best checkpoint on test images"
python eval.py --workdir="$workdir" --checkpoint=best --split=test
echo "== exporting it as a SavedModel"
python scripts/export.py --workdir="$workdir" --checkpoint=best
echo "== classifying one test image"
python scripts/save_image.py --source=digits --split='test[7:8]' --output="$workdir/image.png"
python scripts/classify.py --model="$workdir/saved_model" "$workdir/image.png"

cat <<EOF

Files in $workdir:
  config.json    the experiment              checkpoints/  the newest checkpoints   best/         the best checkpoint
  metrics.jsonl  metrics                     tensorboard/  metrics for TensorBoard  evaluations/  results of eval.py
  classes.txt    names of the classes        saved_model/  the SavedModel           image.png     the classified image
Next: docs/quickstart.md. In a new shell, activate the environment first:
  . ${VIRTUAL_ENV:-.venv}/bin/activate
  python eval.py --workdir=$workdir --checkpoint=newest --split=test
EOF
