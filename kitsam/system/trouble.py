"""Why a transfer brought no complete file, and whether another try may bring it."""

import errno

# What cannot be had without other credentials or another address: errors of botocore and google.auth, which need not be
# installed, and errno, into which s3fs translates most answers of a server.
_REFUSALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "ParamValidationError",
    "DefaultCredentialsError",
    "RefreshError",
}
_REFUSED = (errno.EINVAL, errno.EPERM, errno.ENOSYS)


class Trouble(Exception):
    """`may_pass`: another try may bring the file. `absent`: for all that can be told, there is none."""

    def __init__(self, reason: str, may_pass: bool = True, absent: bool = False) -> None:
        super().__init__(reason)
        self.may_pass, self.absent = may_pass, absent


def trouble_of(error: Exception) -> Trouble:
    """Of what a driver or the library below it raises, which may be of a class that is not known here."""
    if isinstance(error, FileNotFoundError):
        return Trouble("no such file", may_pass=False, absent=True)
    reason = getattr(error, "strerror", None) or str(error)
    refused = (
        isinstance(error, PermissionError | ValueError)
        or type(error).__name__ in _REFUSALS
        or (isinstance(error, OSError) and error.errno in _REFUSED)
    )
    return Trouble(" ".join(reason.split()) or type(error).__name__, may_pass=not refused)
