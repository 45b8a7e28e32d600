#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The gate, in the order that fails fastest. The git hook runs `tools/check.sh quick`, CI all of it.
#
#   tools/check.sh quick    format, layers and doors, debug build, unit and sim tests
#   tools/check.sh          all: also clang, ASan+UBSan, TSan, headers alone, clang-tidy, cppcheck
#   tools/check.sh STEP...  only these: format tidy scripts build debug asan clang-asan tsan headers clang-tidy cppcheck
#   tools/check.sh lint     clang-tidy and cppcheck for what differs from main only
set -eu
cd "$(git rev-parse --show-toplevel)"
jobs=$(nproc)

say() {
	printf 'check: %s\n' "$1"
}

sources() { # tracked files that exist: a file deleted but not yet committed is none
	git ls-files --cached --others --exclude-standard "$@" | while read -r f; do
		[ ! -f "$f" ] || echo "$f"
	done
}

step_format() {
	sources '*.c' '*.h' | xargs clang-format --dry-run -Werror
}

step_tidy() {
	python3 tools/tidy.py
}

scripts() { # tracked files whose first line names the interpreter $1
	sources | xargs awk "FNR == 1 && /^#!.*[\/ ]($1)/ { print FILENAME } { nextfile }"
}

step_scripts() {
	scripts '(ba|da)?sh' | xargs -r shellcheck -x
	{ sources '*.py'; scripts python3; } | sort -u | xargs -r python3 -c '
import sys
for name in sys.argv[1:]:
    with open(name, encoding="utf-8") as f:
        compile(f.read(), name, "exec")'
}

built() { # $1: a preset; its tree is up to date, with warnings as errors
	[ -f "build/$1/build.ninja" ] || cmake --preset "$1" >/dev/null
	cmake --build "build/$1" -j "$jobs" >"build/$1/build.log" </dev/null || {
		tail -n 60 "build/$1/build.log"
		return 1
	}
}

preset() { # $1; build and run everything that needs no privileges, or the labels $2
	built "$1" || return 1
	tools/ctest.sh "build/$1" -L "^(${2:-unit|sim|sec})\$" >"build/$1/test.log" || {
		grep -Ev '^ *[0-9]+/[0-9]+ Test +#.*Passed|^ +Start ' "build/$1/test.log"
		return 1
	}
	grep 'tests passed' "build/$1/test.log" | tail -n 1
}

step_build() { built debug; }
step_debug() { preset debug; }
step_asan() { preset asan; }
step_clang_asan() { preset clang-asan; }
step_tsan() { preset tsan 'unit|sec'; } # simulations have one thread

step_headers() { # every header compiles alone
	GW_CFLAGS=$(pkg-config --cflags libnl-3.0) # the only library whose headers lie elsewhere
	export GW_CFLAGS
	# shellcheck disable=SC2016 # the inner shell expands it
	sources '*.h' | xargs -P "$jobs" -I@ sh -c \
		'echo "#include \"@\"" | cc -std=c17 -D_GNU_SOURCE -Wall -Werror -fsyntax-only -I. -Ibuild/debug $GW_CFLAGS -x c - || { echo "header does not stand alone: @"; exit 255; }'
}

lint_clang_tidy() { # C files on stdin; $*: more options
	built debug # not only configured: some headers are generated
	xargs -r -P "$jobs" -n 4 clang-tidy -p build/debug --quiet --warnings-as-errors='*' "$@" 2>/dev/null
}

lint_cppcheck() { # C files on stdin
	xargs -r cppcheck --quiet -j "$jobs" --library=tools/cppcheck.cfg --std=c11 \
		--enable=warning,performance,portability --inline-suppr --error-exitcode=2 -I.
}

# All files, but the static analyzer, which takes nine tenths of the time, follows a third of the states in each function
# that it does by default, and does in the step lint: docs/decisions/0250.
step_clang_tidy() {
	sources '*.c' | lint_clang_tidy --extra-arg=-Xclang --extra-arg=-analyzer-config \
		--extra-arg=-Xclang --extra-arg=max-nodes=75000
}
step_cppcheck() { sources '*.c' | lint_cppcheck; }

changed() { # C files that differ from main, committed or not
	from=$(git merge-base HEAD main 2>/dev/null || git rev-parse HEAD)
	{
		git diff --name-only --diff-filter=d "$from" -- '*.c'
		git ls-files --others --exclude-standard '*.c'
	} | sort -u
}

step_lint() {
	changed | lint_clang_tidy
	changed | lint_cppcheck
}

case ${1:-all} in
quick) set -- format tidy scripts debug ;;
all) set -- format tidy scripts debug asan clang-asan tsan headers clang-tidy cppcheck ;;
esac
for step; do
	say "$step"
	"step_$(echo "$step" | tr - _)"
done
say ok
