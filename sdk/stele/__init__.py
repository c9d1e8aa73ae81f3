"""Stele, a ledger database: formats, verifier, client and command line.

Importing this package loads nothing heavy: take what you need from its subpackages.
"""

__version__ = "0.1.0"
