"""What a user may decide about a start of which nobody can tell whether it arrived (SPEC J7)."""

from __future__ import annotations

import enum

from simpletuner_lab.core.errors import InvalidRequest


class Decision(enum.StrEnum):
    """What may be decided."""

    RESEND = "resend"
    """Start it as a new attempt: the user knows that there is no run, or does not mind a second one."""
    GIVE_UP = "give_up"
    """The job fails. A run of it that there is after all is not ended by this."""

    @classmethod
    def parse(cls, text: str) -> Decision:
        """The decision that a word names.

        Raises:
            InvalidRequest: there is no such.
        """
        try:
            return cls(text)
        except ValueError as error:
            raise InvalidRequest(f"{text!r} is no way out", hint=f"one of: {', '.join(cls)}") from error
