"""Why a picture is not read, before it is known under which name the user will see it."""


class RefusedError(Exception):
    """``found`` says what is wrong with the file, ``mend`` what to do about it. It never leaves the room."""

    def __init__(self, found: str, mend: str) -> None:
        """Keep both halves; the name of the file and what was expected are added where it is known."""
        super().__init__(found, mend)
        self.found = found
        self.mend = mend
