#!/usr/bin/env bash
# The one test command. Works on a clean clone, as root or not, without a terminal; needs no network
# but the package registries. Says at the end what ran, and fails when nothing of a kind did.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
say() { printf '\n== %s\n' "$*"; }

say "tools"
rustup component add rustfmt clippy >/dev/null 2>&1 || true
cargo --version
skipped=()
if ! cargo nextest --version >/dev/null 2>&1; then
    cargo install cargo-nextest --locked </dev/null || skipped+=("cargo-nextest (cargo test runs instead)")
fi
if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null &&
    ! command -v google-chrome >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -y -qq chromium fonts-dejavu-core; } \
            </dev/null >/dev/null 2>&1 || skipped+=("chromium (pages are not opened)")
    else
        skipped+=("chromium (pages are not opened)")
    fi
fi

# Installs a command's package where that is allowed, or notes what is left out.
need() {
    if command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; then
        return
    fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -y -qq "$2"; } \
            </dev/null >/dev/null 2>&1 || skipped+=("$1 ($3)")
    else
        skipped+=("$1 ($3)")
    fi
}
need sshd openssh-server "no node is reached over SSH"
need ip iproute2 "no network is cut"
need script bsdutils "nothing is printed on a terminal"

say "format"
cargo fmt --all --check
say "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
# The simulator alone, too: nothing of the live system is compiled for it.
cargo clippy -p gridsim --features canaries --all-targets --locked -- -D warnings
say "the workspace"
cargo build --workspace --all-targets --locked

say "tests"
mkdir -p target
export GRID_COUNTS="$PWD/target/grid-counts.txt"
rm -f "$GRID_COUNTS"
log="$PWD/target/grid-tests.log"
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked --no-fail-fast </dev/null 2>&1 | tee "$log"
    tests=$(sed -n 's/.* \([0-9][0-9]*\) passed.*/\1/p' "$log" | tail -1)
else
    cargo test --workspace --locked --no-fail-fast --lib --bins --tests </dev/null 2>&1 | tee "$log"
    tests=$(sed -n 's/.*result: ok\. \([0-9][0-9]*\) passed.*/\1/p' "$log" |
        awk '{ n += $1 } END { print n + 0 }')
fi

sum() { awk -v kind="$1" -v field="$2" '$1 == kind { n += $field } END { print n + 0 }' "$GRID_COUNTS"; }
# How many, and from how many milliseconds to how many.
span() {
    awk -v kind="$1" '$1 == kind { low = n++ && low < $3 ? low : $3; high = high > $3 ? high : $3 }
        END { printf "%d (%d to %d ms", n, low, high }' "$GRID_COUNTS"
}
cases=$(sum property 3)
commands=$(sum property 4)
scripts=$(($(sum scripts 3) + $(sum histories 3)))
seeds=$(sum swarm 3)
entries=$(sum swarm 4)
validated=$(sum validate 3)
canaries=$(sum canaries 3)
inputs=$(sum fuzz 3)
mutations=$(sum fuzz 4)
say "what ran"
echo "tests passed      ${tests:-0}"
echo "property cases    $cases"
echo "commands applied  $commands"
echo "golden scripts    $scripts ($(sum histories 3) of them over a faulty network)"
echo "fuzz inputs       $((inputs + mutations)) ($inputs of the corpus)"
echo "swarm seeds       $seeds ($entries entries, every invariant after each)"
echo "planted bugs      $canaries, all found (in $(sum canaries 4) seeds)"
echo "kills             $(sum kills 3) of real daemons and agents under load"
echo "journal damage    $(sum damage 3) flipped bits"
echo "who may do what   $(sum access 3) requests by several users"
echo "on a terminal     $(sum terminal 3) answers with hostile text"
echo "owners returned   $(awk '$1 == "owner" { printf "%s %d ms, ", $2, $3 }' "$GRID_COUNTS" |
    sed 's/_ms / /g; s/_/ /g; s/, $//')"
echo "hosts over SSH    $(sum ssh 3)"
echo "partitions        $(span partition) from a job's death to its next start)"
echo "validated cases   $validated ($(sum validate 4) entries, every invariant after each)"
awk '$1 == "weather" { n[$2] += $3 } END { for (w in n) print "  " w, n[w] }' "$GRID_COUNTS" | sort
awk '$1 == "skipped" { print "!! SKIPPED:", $0 }' "$GRID_COUNTS"
if { command -v sshd >/dev/null || [ -x /usr/sbin/sshd ]; } && [ "$(sum ssh 3)" -eq 0 ]; then
    echo "!! there is an sshd, and no node was reached over it"
    exit 1
fi
for what in "${skipped[@]}"; do
    echo "!! SKIPPED: $what"
done
for count in "${tests:-0}" "$cases" "$commands" "$scripts" "$seeds" "$entries" "$validated" \
    "$canaries" "$inputs" "$mutations" "$(sum kills 3)" "$(sum damage 3)"; do
    if [ "$count" -eq 0 ]; then
        echo "!! a count is zero: something did not run"
        exit 1
    fi
done
echo "all passed"
