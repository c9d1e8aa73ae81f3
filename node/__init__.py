"""One Stele server process: configuration, composition, the HTTP API, and the command `steled`."""

__version__ = "0.1.0"
