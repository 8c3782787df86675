"""Every error that a person may see.

::

    LabeltuiError            exit code
     +-- UsageError              2      an option or a setting is wrong
     +-- SourceError             3      what was given is no labelled data set
     |    +-- UnreadableImage    3      one sample's image cannot be decoded
     |    +-- MissingImage       3      one sample's image is no longer where the scan saw it
     |    +-- ChangedImage       3      another image lies where the scan saw one sample's
     +-- ModelError              4      a backbone or its weights cannot be loaded
     +-- AuditError              5      the directory of an audit
     |    +-- NotAnAudit         5      ... is none
     |    +-- AuditExists        5      ... is there already
     |    +-- NewerFormat        5      ... was written by a newer labeltui
     |    +-- DamagedAudit       5      ... is truncated or inconsistent
     |    +-- AuditBusy          5      ... is being written by another process
     +-- InputError              6      an argument of a function is invalid (also a ValueError)
     +-- JobError                7      a training job
     +-- SystemRefused           8      the system could not read or write a file
     +-- Cancelled             130      the person stopped it

An error states the requirement, what was found instead, and a hint, in that order. The command line prints these three
and no traceback.
"""

from __future__ import annotations


class LabeltuiError(Exception):
    """Base of all errors meant for a person.

    Parameters
    ----------
    message : str
        The requirement.
    got : str, optional
        What was found instead.
    hint : str, optional
        What to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, got: str = "", hint: str = "") -> None:
        self.message = message
        self.got = got
        self.hint = hint
        super().__init__("; ".join(part for part in (message, got, hint) if part))

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes send errors back: the three parts must survive pickling.
        return type(self), (self.message, self.got, self.hint)


class UsageError(LabeltuiError):
    """An option, an argument or a setting is wrong."""

    exit_code = 2


class SourceError(LabeltuiError):
    """What was given cannot be read as a labelled data set."""

    exit_code = 3


class UnreadableImage(SourceError):
    """One sample's image cannot be decoded; long runs mark the sample and continue."""


class MissingImage(SourceError):
    """One sample's image is no longer where the scan saw it."""


class ChangedImage(SourceError):
    """Another image lies where the scan saw one sample's."""


class ModelError(LabeltuiError):
    """A backbone or its weights cannot be loaded."""

    exit_code = 4


class AuditError(LabeltuiError):
    """An audit directory cannot be used."""

    exit_code = 5


class NotAnAudit(AuditError):
    """The directory holds no finished audit."""


class AuditExists(AuditError):
    """An audit stands where a new one was to be written."""


class NewerFormat(AuditError):
    """The audit was written by a newer labeltui."""


class DamagedAudit(AuditError):
    """A file of the audit is truncated or contradicts another."""


class AuditBusy(AuditError):
    """Another process writes this audit."""


class InputError(LabeltuiError, ValueError):
    """An argument of a function is invalid."""

    exit_code = 6


class JobError(LabeltuiError):
    """A training job cannot be started, read or resumed."""

    exit_code = 7


class SystemRefused(LabeltuiError):
    """The system could not read or write a file: a full or failing disk, or a missing permission."""

    exit_code = 8


class Cancelled(LabeltuiError):
    """A long operation was cancelled; finished parts are kept."""

    exit_code = 130
