# SPDX-License-Identifier: Apache-2.0
"""What the lab says when it cannot go on."""


class LabError(Exception):
    """Something that a person can mend: what is wrong, and what to do about it."""

    status = 1

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


class UsageError(LabError):
    """The command line asks for something that does not exist."""

    status = 2
