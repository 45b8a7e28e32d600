#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the tests of a build as ctest does, and up to five that failed once more, one at a time: good then, they are
# told as such (docs/decisions/0291). Not if a sanitizer has said something: a leak alone is what a failed assertion
# leaves behind, and a real one leaks again. Whatever else ends ctest has failed.
#
#   tools/ctest.sh BUILD [CTEST-ARGUMENT...]     leaves BUILD/test.xml, and BUILD/again.xml of those
set -eu
cd "$(dirname "$0")/.."
build=$1
shift
told=$build/Testing/Temporary

run() {
	(cd "$build" && ctest --output-on-failure --no-tests=error "$@")
}

rm -f "$build/again.xml" "$told/LastTestsFailed.log"
status=0
run -j "$(nproc)" --output-junit test.xml "$@" || status=$?
if [ $status -ne 8 ] || [ ! -s "$told/LastTestsFailed.log" ]; then
	exit $status
fi
failed=$(wc -l <"$told/LastTestsFailed.log")
[ "$failed" -le 5 ] || exit $status
! grep -Eq 'ERROR: AddressSanitizer|WARNING: ThreadSanitizer|runtime error: ' "$told/LastTest.log" || exit $status
run --rerun-failed --output-junit again.xml || exit
# A test that was skipped the second time is none that was good.
python3 tools/ctest_report.py "$build/test.xml" >/dev/null || exit
echo "100% tests passed, $failed of them only when run once more"
