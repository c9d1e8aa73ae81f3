"""The whole route table, and the OpenAPI document made from it."""

from __future__ import annotations

from node.http import (
    bulk,
    cluster,
    documents,
    erasures,
    journal,
    keys,
    ledgers,
    members,
    operations,
    proof_routes,
    tables,
    tiles,
    transactions,
)
from node.http.route import Route

ROUTES: tuple[Route, ...] = (
    *documents.ROUTES,
    *transactions.ROUTES,
    *erasures.ROUTES,
    *bulk.ROUTES,
    *journal.ROUTES,
    *proof_routes.ROUTES,
    *tiles.ROUTES,
    *tables.ROUTES,
    *ledgers.ROUTES,
    *cluster.ROUTES,
    *members.ROUTES,
    *keys.ROUTES,
    *operations.ROUTES,
)
