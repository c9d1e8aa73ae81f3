"""The whole route table, and the OpenAPI document made from it."""

from __future__ import annotations

from node.http import bulk, cluster, documents, journal, keys, ledgers, operations, tables, transactions
from node.http.route import Route

ROUTES: tuple[Route, ...] = (
    *documents.ROUTES,
    *transactions.ROUTES,
    *bulk.ROUTES,
    *journal.ROUTES,
    *tables.ROUTES,
    *ledgers.ROUTES,
    *cluster.ROUTES,
    *keys.ROUTES,
    *operations.ROUTES,
)
