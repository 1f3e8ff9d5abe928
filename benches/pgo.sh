#!/usr/bin/env bash
# Builds gridsim twice: once to count which code the scenarios run, once laid out by these counts
# (profile-guided optimisation). The results are the same bytes; it takes some fifteen minutes.
#   benches/pgo.sh [SCENARIO..]      trained on these instead of those below
# Needs llvm-profdata of the compiler's own LLVM: `rustup component add llvm-tools`, a package
# llvm-N, or LLVM_PROFDATA=FILE.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never

major=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
host=$(rustc -vV | sed -n 's/^host: //p')
merge=
for found in ${LLVM_PROFDATA:-"$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" \
    "llvm-profdata-$major"}; do
    if [ -z "$merge" ] && command -v "$found" >/dev/null; then
        merge=$found
    fi
done
if [ -z "$merge" ]; then
    echo "pgo.sh: no ${LLVM_PROFDATA:-llvm-profdata of LLVM $major}: run \`rustup component add" \
        "llvm-tools\`, install llvm-$major, or set LLVM_PROFDATA=FILE" >&2
    exit 1
fi

out=$PWD/target/pgo
counts=$out/counts
rm -rf "$counts"
mkdir -p "$counts"
build() {
    RUSTFLAGS="${RUSTFLAGS:-} $1" cargo build --release --locked -p gridsim --target-dir "$out/$2"
}
train() {
    echo "== $*"
    LLVM_PROFILE_FILE=$counts/%m.profraw "$out/counting/release/gridsim" run "$@" \
        --no-pictures --out "$out/run" | grep 'events in'
}

build "-Cprofile-generate=$counts" counting
if [ $# -gt 0 ]; then
    for scenario in "$@"; do
        train "$scenario"
    done
else
    for scenario in burst diurnal drf-toy flicker gang hog lab-week market night-shift reservation; do
        train "scenarios/$scenario.yaml"
    done
    # The small log has 200 jobs: a hundred times.
    for _ in {1..100}; do
        train scenarios/easy-kth.yaml >/dev/null
    done
fi
"$merge" merge -o "$out/profile" "$counts"
build "-Cprofile-use=$out/profile" trained
echo "== $out/trained/release/gridsim"
