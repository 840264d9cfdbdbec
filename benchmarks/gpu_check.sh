#!/usr/bin/env bash
# What a GPU has to confirm, in parts of a few minutes each:
#
#     benchmarks/gpu_check.sh [--dry-run] [--only PART,PART] [OUT]
#
#     tests        the tests marked gpu, then training steps, scoring and quantisation of 1B and 3B shapes: OUT/check.json, .md
#     methods      every registered method and modifier, a few steps each, in four precisions (the board means nothing)
#     compressed   the pair of baselines/compressed.yaml at ten times its steps: OUT/compressed-10x/
#     quick        the grid of quick at ten times its parameters: OUT/quick-10x/
#
# OUT is results/gpu by default. --dry-run: every line on the CPU with tiny shapes; its numbers mean nothing. Without a
# package index, put Gemma 3 270M in a folder and name it: COMPRESSED_MODEL=FOLDER. WORKERS: processes that share the GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOMP_SPINCOUNT=0 HF_HUB_OFFLINE=1 PYTHONPATH=".${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=false
python=${PYTHON:-python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

die() { echo "gpu_check: $1" >&2; exit 2; }

dry='' only=tests,methods,compressed,quick out=''
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry=yes ;;
        --only) only=${2:-}; shift $(($# > 1)) ;;
        -*) die "unknown option $1 (--dry-run, --only PART,PART)" ;;
        *) [ -z "$out" ] || die "one folder for results: $out or $1"; out=$1 ;;
    esac
    shift
done
IFS=, read -ra parts <<<"$only"
[ ${#parts[@]} -gt 0 ] || die "--only: tests, methods, compressed or quick"
for part in "${parts[@]}"; do
    case $part in
        tests | methods | compressed | quick) ;;
        *) die "--only $part: tests, methods, compressed or quick" ;;
    esac
done

if [ "$dry" ]; then
    out=${out:-$work/gpu}
    export ECR_BENCH_GPU_DEVICE=cpu
    options=(--device cpu --shapes tiny-1b tiny-3b --steps 1 --rows 2 --repeats 1 --dry-run)
    tiny=(corpus.rows=1200 'corpus.languages=[en, de, ru]' 'seen_languages=[en, de]' teacher.rows=200 anchors.k=16
        control_tokens.count=2 pretrain.steps=2 finetune.steps=2 finetune.items=16 pretrain.batch_size=4
        finetune.batch_size=4 scoring.items=1 geometry.per_language=2 geometry.snapshots=1 'precisions=[fp32]')
    sizes='{1x: {hidden_size: 32, layers: 1, heads: 2, intermediate_size: 32}, 3x: {hidden_size: 32, layers: 2, heads: 2, intermediate_size: 32}}'
    grid=("${tiny[@]}" tokenizer.vocab_size=600 'cells=[{method: finetune, sizes: [1x, 3x]}, {method: ecr}]')
    model=$work/gemma
    compressed=("${tiny[@]}" sizes.1x.layers=2 'tuned=[{method: finetune, sizes: [3x], set: {pretrain.steps: 0}}]')
    any=('precisions=[fp32]') seeds='[0]'
    workers=1
else
    out=${out:-results/gpu}
    options=(--device cuda --shapes 1b 3b --steps 10 --rows 32 --repeats 3)
    # ten times the parameters of quick, in the same ratio
    sizes='{1x: {hidden_size: 224, layers: 4, heads: 7, intermediate_size: 672}, 3x: {hidden_size: 352, layers: 6, heads: 11, intermediate_size: 1008}}'
    grid=(device=cuda)
    model=${COMPRESSED_MODEL:-package:gemma3-270m}
    compressed=(device=cuda pretrain.steps=3000 finetune.steps=2400
        'tuned=[{method: finetune, sizes: [3x], set: {pretrain.steps: 0, finetune.steps: 1200, finetune.learning_rate: 5.0e-5}}]')
    any=(device=cuda 'precisions=[fp32, bf16, int8, nf4]') seeds='[0, 1]'
    workers=${WORKERS:-8}
fi

wanted() { [[ ,$only, == *,$1,* ]]; }

run() {  # NAME EXPERIMENT [SETTING...]: a board
    "$python" -m ecr_bench.cli run "$2" --out "$work/runs" --workers "$workers" --set "name=$1" "${@:3}"
}

keep() {  # NAME: what `ecr-bench verify` and `compare` read of it, beside its page
    mkdir -p "$out/$1"
    (cd "$work/runs/$1" && cp board.json board.md cells.json claims.json measures.json records.parquet report.html run.json "$out/$1/")
}

[[ $out == /* ]] || out=$PWD/$out
if wanted tests; then
    echo "== tests marked gpu"
    "$python" -m pytest -o addopts= -q -m gpu tests/test_gpu.py --junit-xml "$work/tests.xml"
    echo "== quantisation, training steps, scoring"
    "$python" -m benchmarks.gpu_check "${options[@]}" --tests "$work/tests.xml" --out "$out"
fi
if wanted methods; then
    echo "== every method and modifier"
    run gpu-methods tiny "$("$python" -m benchmarks.gpu_methods)" "${any[@]}" \
        control_tokens.from=pretraining 'options={distill: {size: 3x}, lora: {embeddings: true}}'
    keep gpu-methods
fi
if wanted compressed; then
    echo "== compressed at ten times its steps"
    if [ "$dry" ]; then
        "$python" -c "from pathlib import Path; from tests.helpers.tiny_models import save; save('gemma3', Path('$model'), layers=6)"
    fi
    run compressed-10x compressed "sizes.1x.model=$model" "sizes.3x.model=$model" "${compressed[@]}" \
        "cells=[{method: finetune, sizes: [1x, 3x], seeds: $seeds}, {method: ecr, seeds: $seeds}, {method: random, seeds: $seeds}, {method: codes-only, seeds: $seeds}, {method: finetune, with: [distill], seeds: $seeds, set: {pretrain.distill: 3x}}]"
    keep compressed-10x
fi
if wanted quick; then
    echo "== quick at ten times the size"
    run quick-10x quick "sizes=$sizes" "${grid[@]}"
    keep quick-10x
fi
echo "== written to $out"
