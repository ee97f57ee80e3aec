"""What can go wrong with SendGrid's API, sorted by what the tap does about it.

`SendGridError` is the base. `RunStopper` ends the whole run at once; `NothingToRead` means that the
collection is empty by the nature of the account, which is no fault; everything else fails one
collection, and the run goes on with the next.
"""

from __future__ import annotations


class SendGridError(Exception):
    """A problem with SendGrid, told so that a person knows what to do next."""


class RunStopper(SendGridError):
    """No collection can be read: the run ends at once (Segment's rule R44)."""


class InvalidCredentials(RunStopper):
    """SendGrid does not know the key, or the key was revoked.

    Args:
        api_url: The host that was asked.
        answer: SendGrid's own words.
    """

    def __init__(self, api_url: str, answer: str) -> None:
        super().__init__(
            f"Invalid Credentials: SendGrid rejected the API key ({answer}). Check the setting "
            "api_key (environment: TAP_SENDGRID_API_KEY); keys have 69 characters and begin with "
            "'SG.'. Try the same request by hand:\n"
            f'  curl -i -H "Authorization: Bearer $TAP_SENDGRID_API_KEY" '
            f'"{api_url}/v3/marketing/lists?page_size=1"'
        )


class MissingApiKey(RunStopper):
    """An object stream is selected and there is no key.

    Args:
        streams: Names of the selected streams that need one.
    """

    def __init__(self, streams: list[str]) -> None:
        super().__init__(
            f"The setting api_key is missing, and these selected streams need it: "
            f"{', '.join(streams)}. Set TAP_SENDGRID_API_KEY, or deselect them: event streams "
            "read the local event log and need no key."
        )


class InvalidSetting(RunStopper):
    """A setting has a value that no run can use."""


class IPRestricted(RunStopper):
    """The key is good but may not be used from this address (IP Access Management).

    Args:
        answer: SendGrid's own words.
    """

    def __init__(self, answer: str) -> None:
        super().__init__(
            f"SendGrid refuses every request from this machine's address ({answer}): the account "
            "restricts IP addresses. Add this machine's public address in SendGrid under "
            "Settings > IP Access Management."
        )


class UnexpectedAnswer(SendGridError):
    """SendGrid's answer has another form than its specification says."""


class UnreadableState(SendGridError):
    """What an earlier run should have left is something else.

    Args:
        stream: The stream.
        where: The stream, and its subuser.
        what: What is wrong.
    """

    def __init__(self, stream: str, where: str, what: str) -> None:
        super().__init__(
            f"the state of {where} cannot be read: {what}. Nothing was asked of SendGrid. To have "
            "everything read again, clear the state: meltano state clear STATE_ID (meltano state "
            f"list shows the ids), or take bookmarks.{stream} out of the state file. To keep it, "
            "correct it there."
        )


#: What reading an answer of an unexpected form ends in.
MISREAD = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


class NothingToRead(SendGridError):
    """The account has no such collection: zero rows, and no fault (Segment's rule R22)."""


class MissingScope(SendGridError):
    """The key lacks a permission.

    Args:
        scopes: The scopes that would do; one of them is enough.
        what: What could not be read.
    """

    def __init__(self, scopes: tuple[str, ...], what: str) -> None:
        self.scopes = scopes
        names = " or ".join(scopes)
        super().__init__(
            f"the API key lacks the permission {names}, which {what} needs. Give it to the key in "
            "SendGrid under Settings > API Keys, or deselect the stream."
        )


class UnknownSubuser(SendGridError):
    """The key may not act for a subuser."""


class WrongGeneration(SendGridError):
    """The account has the other generation of Marketing Campaigns than the setting says."""


class RequestRejected(SendGridError):
    """An answer 4xx that has no better name, or a redirect, which SendGrid never sends.

    Args:
        status: The HTTP status.
        request: Method and path, without personal data.
        answer: SendGrid's own words.
    """

    def __init__(self, status: int, request: str, answer: str) -> None:
        self.status = status
        self.answer = answer
        super().__init__(f"SendGrid answered {status} to {request}: {answer}")


class Forbidden(RequestRejected):
    """403: a missing scope, the other generation, or an address that is not allowed."""


class NotFound(RequestRejected):
    """404; on the legacy generation also the end of the pages."""


class ServiceUnavailable(SendGridError):
    """SendGrid did not answer well however often it was asked."""


class ExportFailed(SendGridError):
    """SendGrid gave up on a contact export, or its files cannot be had."""
