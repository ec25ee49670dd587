"""Every exception VidCap raises on purpose, and the reason codes that rows carry.

    VidcapError                  exit code 1
    ├── UsageError               exit code 2: the command, its options or the environment are not as needed
    │   ├── ConfigError          the pipeline YAML (names file, line, nearest known key)
    │   ├── ManifestError        the list of sources
    │   ├── PromptError          a prompt file
    │   ├── BackendError         a backend that is unknown or cannot be loaded here
    │   ├── RunLockedError       another run holds the output folder
    │   └── ShardError           a shard that is damaged or not one of ours
    ├── ItemError                one source or clip cannot go on; carries a reason code, becomes a row
    │   └── MediaError           ... because of its bytes
    ├── TransientError           worth another try: a worker lost, a store down, a server busy
    │   └── StoreError           ... the disk of the run is full, read-only or failing (exit code 2)
    ├── InterruptedRunError      asked to stop; what is done is committed (exit code 75 or 130)
    └── InvariantError           something was lost or counted twice: a bug in VidCap

A message is lower-case, quotes the value in backticks and says in `hint` how to mend it.
"""

from __future__ import annotations

from typing import ClassVar


class VidcapError(Exception):
    """Base of all. `hint` is the mend, printed on a line of its own."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive pickling between workers without this.
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(VidcapError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class ManifestError(UsageError):
    pass


class PromptError(UsageError):
    pass


class BackendError(UsageError):
    pass


class RunLockedError(UsageError):
    pass


class ShardError(UsageError):
    pass


class ItemError(VidcapError):
    """One source or clip cannot go on. `reason` is a code of `vidcap.reasons`."""

    def __init__(self, reason: str, detail: str = "", *, value: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.value = value


class MediaError(ItemError):
    pass


class TransientError(VidcapError):
    pass


class StoreError(TransientError):
    exit_code = 2


class InterruptedRunError(VidcapError):
    exit_code = 75


class InvariantError(VidcapError):
    pass


def _rebuild(cls: type[VidcapError], args: tuple[object, ...], state: dict[str, object]) -> VidcapError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error
