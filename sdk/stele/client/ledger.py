"""A ledger as the client sees it."""

from __future__ import annotations

from stele.client.documents import Documents
from stele.client.erasures import Erasures
from stele.client.journal import Journal
from stele.client.receipts import Receipts
from stele.client.transactions import Transactions


class Ledger(Documents, Transactions, Erasures, Receipts, Journal):
    """One ledger: its documents, transactions and journal. Made by Client.ledger(name)."""
