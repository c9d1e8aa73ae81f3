"""What ends a history at once."""


class Violation(Exception):
    """A promise was broken."""
