# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What deploy/test and deploy/demo share: words on the screen, a log, timed stages, packages.
# Source it from a script with `set -euo pipefail`, then call log_open.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stage_names=()
stage_times=()
stage_verdicts=() # ok, FAILED or skipped, and a remark
log=/dev/null
shown=/dev/null # what the stage that runs wants the reader to see
stage_pid=
ticker_pid=
beside_pid= # the stage that runs beside others
bold='' dim='' red='' green='' yellow='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
	bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m'
fi
# A checkout that belongs to somebody else (CI as root) is still ours to read.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=$root

log_open() { # NAME: everything goes to build/log/NAME-<time>.log as well
	mkdir -p "$root/build/log"
	log=$root/build/log/$1-$(date +%Y%m%d-%H%M%S).log
	: >"$log"
	shown=$log.shown
	trap 'stage_stop; exit 130' INT
	trap 'stage_stop; exit 143' TERM HUP
}

say() { # TEXT...: a line for the reader and the log
	printf '%s\n' "$*"
	printf '%s\n' "$*" >>"$log"
}

title() { # TEXT: a heading
	printf '\n%s%s%s\n' "$bold" "$*" "$plain"
	printf '\n== %s\n' "$*" >>"$log"
}

show() { # TEXT...: inside a stage: a line for the reader, printed below the stage's verdict
	printf '%s\n' "$*" | tee -a "$shown"
}

die() { # WHAT [HINT]: what is wrong and what to do about it
	printf '%s%s: %s%s\n' "$red" "$(basename "$0")" "$1" "$plain" >&2
	printf '%s\n' "$1" >>"$log"
	if [ -n "${2:-}" ]; then
		printf '  %s\n' "$2" >&2
	fi
	exit 1
}

now() { # seconds since boot, with hundredths
	local up _
	read -r up _ </proc/uptime
	echo "$up"
}

since() { # START: seconds from START to now, one decimal
	awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'
}

colour_of() { # VERDICT
	case $1 in
	ok*) printf '%s' "$green" ;;
	FAILED*) printf '%s' "$red" ;;
	*) printf '%s' "$yellow" ;;
	esac
}

# Shows that a stage is alive: a counter on a terminal, else a line a minute. Holds no pipe open.
ticker() { # NAME
	local start=$SECONDS
	if [ -t 1 ]; then
		while :; do
			printf '\r  %-22s %s%4d s%s ' "$1" "$dim" $((SECONDS - start)) "$plain"
			sleep 1 >/dev/null 2>&1
		done
	fi
	while sleep 60 >/dev/null 2>&1; do
		printf '  %-22s ... %d s so far\n' "$1" $((SECONDS - start))
	done
}

stage_stop() { # ends the stage that runs and the one beside it, with their children
	local pid
	[ -z "$ticker_pid" ] || kill -KILL "$ticker_pid" 2>/dev/null || :
	for pid in $stage_pid $beside_pid; do
		kill -TERM -- "-$pid" 2>/dev/null || :
	done
	ticker_pid='' stage_pid='' beside_pid=''
}

stage_wait() { # NAME PID: waits for it, showing that it is alive; returns its status
	local status=0
	ticker "$1" &
	ticker_pid=$!
	wait "$2" || status=$?
	kill -KILL "$ticker_pid" 2>/dev/null || : # just forked, bash may take a SIGTERM for its parent's trap
	wait "$ticker_pid" 2>/dev/null || :
	ticker_pid=''
	return $status
}

# stage_told NAME START STATUS FROM: shows and remembers a stage that has ended; its output is in the log from
# byte FROM on. Returns 1 if it failed.
stage_told() {
	local name=$1 start=$2 status=$3 from=$4 verdict last
	last=$(tail -c "+$from" "$log" | grep -v '^$' | tail -n 1 | cut -c 1-100) || last=
	case $status in
	0)
		verdict=ok
		remark=$(tail -c "+$from" "$log" | grep -E '^([0-9]+% tests passed|fuzz: )' | tail -n 1) || remark=
		;;
	77) verdict=skipped remark=$last ;;
	*) verdict=FAILED remark="status $status" ;;
	esac
	stage_names+=("$name")
	stage_times+=("$(since "$start")")
	stage_verdicts+=("$verdict${remark:+  $remark}")
	[ ! -t 1 ] || printf '\r\e[K'
	printf '  %-22s %8s s  %s%s%s%s\n' "$name" "${stage_times[-1]}" "$(colour_of $verdict)" $verdict "$plain" \
		"${remark:+  $remark}"
	[ ! -e "$shown" ] || sed 's/^/      /' "$shown"
	rm -f "$shown"
	printf '== %s: %s after %s s\n' "$name" "${stage_verdicts[-1]}" "${stage_times[-1]}" >>"$log"
	if [ $verdict = FAILED ]; then
		tail -c "+$from" "$log" | head -n -1 | tail -n "${GW_TAIL_LINES:-80}" | sed 's/^/    | /'
		return 1
	fi
}

# stage NAME COMMAND...: runs it with its output in the log, shows and remembers time and verdict.
# Status 77 means "cannot be done here"; the last line of output is the reason. A failed stage shows
# the end of its output and returns 1; the remark of a good one is what ctest or fuzz.sh summed up.
stage() {
	local name=$1 start status=0 from
	shift
	printf '\n== %s: %s\n' "$name" "$*" >>"$log"
	start=$(now)
	from=$(($(stat -c %s "$log") + 1))
	: >"$shown"
	set -m # a process group of its own, so that all of it can be ended
	"$@" </dev/null >>"$log" 2>&1 &
	stage_pid=$!
	set +m
	stage_wait "$name" "$stage_pid" || status=$?
	stage_pid=''
	stage_told "$name" "$start" $status "$from"
}

# beside NAME COMMAND...: begins a stage that runs beside those that follow; one at a time. It shows nothing
# before beside_end, which waits for it and tells as stage does.
beside() {
	beside_name=$1 beside_start=$(now)
	shift
	beside_words=$*
	set -m
	"$@" </dev/null >"$log.beside" 2>&1 &
	beside_pid=$!
	set +m
}

beside_end() {
	local status=0 from
	stage_wait "$beside_name" "$beside_pid" || status=$?
	beside_pid=''
	printf '\n== %s: %s\n' "$beside_name" "$beside_words" >>"$log"
	from=$(($(stat -c %s "$log") + 1))
	cat "$log.beside" >>"$log"
	rm -f "$log.beside"
	stage_told "$beside_name" "$beside_start" $status "$from"
}

# yielding COMMAND...: with what the processors have left. For a kernel that shares them among sessions first and
# among processes then (autogroup), nice means something within a session only: so it gets one of its own, a nice one.
yielding() {
	local status=0
	yielding_pid='' yielding_over=''
	renice -n 19 -p "$BASHPID" >/dev/null
	trap 'yielding_over=1; yielding_stop' TERM INT HUP
	# shellcheck disable=SC2016 # the inner shell expands it
	setsid bash -c '[ ! -e /proc/self/autogroup ] || echo 19 >/proc/self/autogroup; exec "$@"' yielding "$@" &
	yielding_pid=$!
	[ -z "$yielding_over" ] || yielding_stop # the signal came before there was a number
	wait "$yielding_pid" || status=$?
	trap - TERM INT HUP
	return $status
}

yielding_stop() { # ends the session, which may be about to begin
	[ -n "$yielding_pid" ] || return 0
	until kill -TERM -- "-$yielding_pid" 2>/dev/null || ! kill -0 "$yielding_pid" 2>/dev/null; do
		sleep 0.01
	done
}

stages_failed() { # names of the failed stages
	local i
	for i in "${!stage_names[@]}"; do
		case ${stage_verdicts[i]} in FAILED*) printf '%s ' "${stage_names[i]}" ;; esac
	done
}

stages_table() { # all stages with time and verdict
	local i line
	for i in "${!stage_names[@]}"; do
		line=$(printf '  %-22s %8s s  %s' "${stage_names[i]}" "${stage_times[i]}" "${stage_verdicts[i]}")
		printf '%s%s%s\n' "$(colour_of "${stage_verdicts[i]}")" "$line" "$plain"
		printf '%s\n' "$line" >>"$log"
	done
}

packages_of() { # SECTION...: the packages of deploy/packages in these sections
	local sections=" $* "
	awk -v want="$sections" '
		{ sub(/#.*/, "") }
		/^\[/ { gsub(/[][ \t]/, ""); on = index(want, " " $0 " ") > 0; next }
		on && NF { print $1 }' "$root/deploy/packages"
}

packages_missing() { # SECTION...: those that are not installed
	local p
	for p in $(packages_of "$@"); do
		dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || echo "$p"
	done
}

packages_install() { # SECTION...: installs what is missing; asks nobody
	local missing
	mapfile -t missing < <(packages_missing "$@")
	if [ ${#missing[@]} -eq 0 ]; then
		echo "all packages are there"
		return 0
	fi
	echo "missing: ${missing[*]}"
	if [ "$(id -u)" -ne 0 ]; then
		echo "not root: run as root, or install them yourself: apt-get install ${missing[*]}"
		return 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	# Package lists first: a bare machine has none, an old one has wrong ones.
	apt-get -q update || echo "apt-get update failed; trying with the lists that are there"
	apt-get -q -y --no-install-recommends install "${missing[@]}"
}

build_preset() { # PRESET: configures and builds build/PRESET, in parallel, with ccache where it is
	if [ -z "${CMAKE_C_COMPILER_LAUNCHER:-}" ] && command -v ccache >/dev/null; then
		export CMAKE_C_COMPILER_LAUNCHER=ccache
	fi
	cmake --preset "$1" && cmake --build "build/$1" -j "$(nproc)"
}
