#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Run the fuzz targets (gw_fuzz), each for some seconds, as many at once as there are processors.
# Builds them first, and nothing else (the target `fuzzers` of the preset `fuzz`).
#
#   tools/fuzz.sh [SECONDS] [TARGET...]     60 seconds, all targets
#
# One line per target: inputs tried, edges covered by the corpus and by the end, inputs found that
# reach something new. They are kept in build/fuzz/corpus/TARGET; worth committing to
# tests/fuzz/corpus/TARGET are those that a test should replay forever.
# A finding prints the end of the target's log and leaves the input in build/fuzz/findings/.
#
# GODWIT_FUZZ_SECONDS   used if SECONDS is not given
# GODWIT_FUZZ_BUDGET    seconds that all targets together may take: each gets less if need be
# GODWIT_FUZZ_JOBS      targets at once (default: processors)
# GODWIT_FUZZ_SEED      the same inputs in the same order each time, as far as time goes (default: others)
# Exit status: 0 nothing found; 1 something was found, or a target did not run; 2 usage.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/fuzz
input_bytes_max=65536 # larger ones are slow and find little; a target may stop at less

usage() {
	sed -n '3,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
}

last_number() { # FILE WORD: the number after the last "WORD " on a progress line; 0 if none
	awk -v word="$2" '{ for (i = 1; i < NF; i++) if ($i == word) n = $(i + 1) } END { print n + 0 }' "$1"
}

first_number() { # FILE WORD: ... of the line after the corpus was read
	awk -v word="$2" '/INITED/ { for (i = 1; i < NF; i++) if ($i == word) { print $(i + 1); done = 1; exit } }
		END { if (!done) print 0 }' "$1"
}

run_target() { # NAME PROGRAM SECONDS: prints its line; writes build/fuzz/log/NAME.failed on a finding
	local name=$1 program=$2 seconds=$3 log=$build/log/$1.log status=0 execs before after new
	mkdir -p "$build/corpus/$name" "tests/fuzz/corpus/$name"
	# The first directory takes new inputs, the second is only read.
	"$program" -max_total_time="$seconds" -max_len="$input_bytes_max" -timeout=60 -rss_limit_mb=2048 -seed="${GODWIT_FUZZ_SEED:-0}" \
		-print_final_stats=1 -artifact_prefix="$build/findings/$name-" \
		"$build/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1 || status=$?
	execs=$(awk '/^stat::number_of_executed_units:/ { n = $2 } END { print n + 0 }' "$log")
	new=$(awk '/^stat::new_units_added:/ { n = $2 } END { print n + 0 }' "$log")
	before=$(first_number "$log" cov:)
	after=$(last_number "$log" cov:)
	if [ "$status" -eq 0 ] && [ "$execs" -gt 0 ]; then
		printf '%-28s ok       %10d execs  cov %5d (+%d)  %d new inputs\n' \
			"$name" "$execs" "$after" $((after - before)) "$new"
		return
	fi
	echo "$status" >"$build/log/$name.failed"
	printf '%-28s FINDING  exit status %d, log %s\n' "$name" "$status" "$log"
	grep -Ev '^#[0-9]' "$log" | tail -n 40 | sed 's/^/    /'
}

case ${1:-} in
-h | --help)
	usage
	exit 0
	;;
esac
seconds=${GODWIT_FUZZ_SECONDS:-60}
budget=${GODWIT_FUZZ_BUDGET:-}
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
	seconds=$1
	shift
fi
for number in "$seconds" "${budget:-1}"; do
	if [[ ! $number =~ ^[1-9][0-9]*$ ]]; then
		echo "fuzz: '$number' is not a number of seconds from 1" >&2
		exit 2
	fi
done
command -v clang >/dev/null || {
	echo "fuzz: clang is missing: apt-get install clang" >&2
	exit 1
}

[ -f $build/build.ninja ] || cmake --preset fuzz >/dev/null
mkdir -p $build/log $build/findings
cmake --build $build --target fuzzers >$build/log/build.log 2>&1 || {
	tail -n 60 $build/log/build.log
	echo "fuzz: the build failed, all that it said: $build/log/build.log" >&2
	exit 1
}

declare -A programs=()
while read -r name program; do
	[ -z "$name" ] || programs[$name]=$program
done <$build/fuzz-targets
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
	mapfile -t names < <(printf '%s\n' "${!programs[@]}" | sort)
fi
for name in "${names[@]}"; do
	if [ -z "${programs[$name]:-}" ]; then
		echo "fuzz: no target '$name'; there are: $(printf '%s\n' "${!programs[@]}" | sort | tr '\n' ' ')" >&2
		exit 2
	fi
done
rm -f $build/log/*.failed

jobs=${GODWIT_FUZZ_JOBS:-$(nproc)}
if [ -n "$budget" ]; then
	rounds=$(((${#names[@]} + jobs - 1) / jobs))
	share=$((budget / rounds > 0 ? budget / rounds : 1))
	[ "$share" -ge "$seconds" ] || seconds=$share
fi
for name in "${names[@]}"; do
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
		wait -n || true
	done
	run_target "$name" "${programs[$name]}" "$seconds" &
done
wait
failed=$(find $build/log -name '*.failed' | wc -l)
if [ "$failed" -ne 0 ]; then
	echo "fuzz: $failed of ${#names[@]} targets found something; inputs are in $build/findings/"
	exit 1
fi
echo "fuzz: ${#names[@]} targets, $seconds s each, nothing found"
