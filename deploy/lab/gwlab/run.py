# SPDX-License-Identifier: Apache-2.0
"""Run a program; its output is shown only when it fails."""
import os
import subprocess

from gwlab.errors import LabError

ENV = dict(os.environ, LC_ALL="C.UTF-8",
           PATH=os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin")


def run(*argv, input_text=None, cwd=None, hint=None):
    """Run @argv to its end and return its standard output; LabError if it fails."""
    try:
        done = subprocess.run([str(a) for a in argv], input=input_text, cwd=cwd, env=ENV,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=None if input_text is not None else subprocess.DEVNULL,
                              check=False)
    except OSError as e:
        raise LabError(f"{argv[0]}: {e.strerror}", hint) from e
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"{' '.join(str(a) for a in argv[:6])}... failed ({done.returncode}): {said}"
                       if len(argv) > 6 else
                       f"{' '.join(str(a) for a in argv)} failed ({done.returncode}): {said}", hint)
    return done.stdout
