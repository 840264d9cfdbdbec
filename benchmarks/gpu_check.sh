#!/usr/bin/env bash
# What a GPU has to confirm, within fifteen minutes on one:
#
#     benchmarks/gpu_check.sh [OUT]              (default OUT: results/gpu)
#     benchmarks/gpu_check.sh --dry-run [OUT]    every line on the CPU with tiny shapes; its numbers mean nothing
#
# Writes OUT/check.json and OUT/check.md (tests, speed, memory, versions, hardware), OUT/quick-10x/ and OUT/compressed-10x/
# (boards). Without a package index, put Gemma 3 270M in a folder and name it: COMPRESSED_MODEL=FOLDER.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOMP_SPINCOUNT=0 HF_HUB_OFFLINE=1 PYTHONPATH=. TOKENIZERS_PARALLELISM=false
python=${PYTHON:-python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "${1:-}" = --dry-run ]; then
    out=${2:-$work/gpu}
    export ECR_BENCH_GPU_DEVICE=cpu
    options=(--device cpu --shapes tiny-1b tiny-3b --steps 1 --rows 2 --repeats 1 --dry-run)
    sizes='{1x: {hidden_size: 32, layers: 1, heads: 2, intermediate_size: 32}, 3x: {hidden_size: 32, layers: 2, heads: 2, intermediate_size: 32}}'
    grid=(corpus.rows=1200 'corpus.languages=[en, de, ru]' 'seen_languages=[en, de]' tokenizer.vocab_size=600
        teacher.rows=200 anchors.k=16 control_tokens.count=2 pretrain.steps=2 finetune.steps=2 finetune.items=16
        pretrain.batch_size=4 finetune.batch_size=4 scoring.items=1 geometry.per_language=2 geometry.snapshots=1
        'precisions=[fp32]' 'cells=[{method: finetune, sizes: [1x, 3x]}, {method: ecr}]')
    model=$work/gemma
    "$python" -c "from pathlib import Path; from tests.helpers.tiny_models import save; save('gemma3', Path('$model'), layers=6)"
    compressed=(sizes.1x.layers=2 'tuned=[{method: finetune, sizes: [3x], set: {pretrain.steps: 0}}]' corpus.rows=1200
        'corpus.languages=[en, de, ru]' 'seen_languages=[en, de]' teacher.rows=200 anchors.k=16 control_tokens.count=2
        pretrain.steps=2 finetune.steps=2 finetune.items=16 pretrain.batch_size=4 finetune.batch_size=4 scoring.items=1
        geometry.per_language=2 geometry.snapshots=1 'precisions=[fp32]')
    workers=1
else
    out=${1:-results/gpu}
    options=(--device cuda --shapes 1b 3b --steps 10 --rows 32 --repeats 3)
    # ten times the parameters of quick, in the same ratio
    sizes='{1x: {hidden_size: 224, layers: 4, heads: 7, intermediate_size: 672}, 3x: {hidden_size: 352, layers: 6, heads: 11, intermediate_size: 1008}}'
    grid=(device=cuda)
    model=${COMPRESSED_MODEL:-package:gemma3-270m}
    compressed=(device=cuda pretrain.steps=3000 finetune.steps=2400
        'tuned=[{method: finetune, sizes: [3x], set: {pretrain.steps: 0, finetune.steps: 1200, finetune.learning_rate: 5.0e-5}}]')
    workers=4
fi

echo "== tests marked gpu"
"$python" -m pytest -o addopts= -q -m gpu tests/test_gpu.py --junit-xml "$work/tests.xml"

echo "== quantisation, training steps, scoring"
"$python" -m benchmarks.gpu_check "${options[@]}" --tests "$work/tests.xml" --out "$out"

echo "== quick at ten times the size"
"$python" -m ecr_bench.cli run quick --out "$work/runs" --workers "$workers" --set name=quick-10x "sizes=$sizes" "${grid[@]}"
mkdir -p "$out/quick-10x"
cp "$work"/runs/quick-10x/board.{json,md} "$work/runs/quick-10x/cells.json" "$out/quick-10x/"
echo "== compressed at ten times its steps, one seed of each code source"
"$python" -m ecr_bench.cli run compressed --out "$work/runs" --workers "$workers" --set name=compressed-10x \
    "sizes.1x.model=$model" "sizes.3x.model=$model" "${compressed[@]}" \
    'cells=[{method: finetune, sizes: [1x, 3x]}, {method: ecr}, {method: random}, {method: finetune, with: [distill], set: {pretrain.distill: 3x}}]'
mkdir -p "$out/compressed-10x"
cp "$work"/runs/compressed-10x/board.{json,md} "$work/runs/compressed-10x/cells.json" "$out/compressed-10x/"
echo "== written to $out"
