#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs (or, with --remove, removes) this tree's git hooks:
#   pre-commit   tools/check.sh quick
#   commit-msg   a subject of the form "area: what changed", at most 72 columns
# Leaves hooks that somebody else wrote alone.
set -eu
cd "$(git rev-parse --show-toplevel)"
mark="# Installed by tools/install-hooks.sh"

fail() {
	printf 'install-hooks: %s\n' "$1" >&2
	exit 1
}

hook() { # NAME: its body is on stdin
	path=$(git rev-parse --git-path "hooks/$1")
	if [ -e "$path" ] && ! grep -qxF "$mark" "$path"; then
		fail "$path exists and is not ours: move it away or call us from it"
	fi
	if [ "$remove" = yes ]; then
		rm -f "$path"
		echo "removed $path"
		return
	fi
	mkdir -p "$(dirname "$path")"
	{
		printf '#!/bin/sh\n%s\n' "$mark"
		cat
	} >"$path"
	chmod +x "$path"
	echo "installed $path"
}

case ${1:-} in
'') remove=no ;;
--remove) remove=yes ;;
*) fail "usage: tools/install-hooks.sh [--remove]" ;;
esac

hook pre-commit <<'END'
# git leads its own variables into the hook; tests that make repositories must not follow them.
# shellcheck disable=SC2046
unset $(git rev-parse --local-env-vars)
exec tools/check.sh quick
END
hook commit-msg <<'END'
subject=$(head -n 1 "$1")
case $subject in
fixup!* | squash!* | Merge\ * | Revert\ *) exit 0 ;;
esac
if [ ${#subject} -gt 72 ]; then
	echo "commit-msg: the subject has ${#subject} columns; at most 72" >&2
	exit 1
fi
if ! printf '%s\n' "$subject" | grep -qE '^[A-Za-z0-9_./, -]+: [^ ]'; then
	echo "commit-msg: write 'area: what changed', e.g. 'csv/lease: refuse nonzero reserved bytes'" >&2
	exit 1
fi
if [ -n "$(sed -n 2p "$1" | grep -v '^#')" ]; then
	echo "commit-msg: leave the second line empty" >&2
	exit 1
fi
END
