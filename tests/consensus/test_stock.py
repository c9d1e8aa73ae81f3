"""What consensus/stock.py believes of PySyncObj is so."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pysyncobj.syncobj
from pysyncobj import _COMMAND_TYPE, _RAFT_STATE
from pysyncobj.version import VERSION

from consensus import election, raft_core, raft_rules, stock
from consensus.config import Role
from consensus.raft_core import RaftCore
from consensus.record import Kind
from tests.consensus.cores import Bench

PREFIX = "_SyncObj__"


def names_in(module: object) -> set[str]:
    """Every mangled name of the stock class that a module mentions."""
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return {name for name in found if name.startswith(PREFIX)}


def test_the_version_is_the_one_that_was_read() -> None:
    assert VERSION == stock.STOCK_VERSION == "0.3.17"


def test_every_private_name_exists_in_the_stock_engine() -> None:
    names = names_in(stock) | names_in(election) | names_in(raft_rules) | names_in(raft_core)
    # Names inside the stock class's own source are not mangled yet.
    source = inspect.getsource(pysyncobj.syncobj.SyncObj)
    missing = {name for name in names if f"self.{name.removeprefix('_SyncObj')}" not in source}
    assert missing == set()
    assert len(names) > 25


def test_every_replaced_method_is_a_method_of_the_stock_engine() -> None:
    replaced = {
        name
        for part in RaftCore.__mro__[: RaftCore.__mro__.index(pysyncobj.syncobj.SyncObj)]
        for name in vars(part)
        if name.startswith(PREFIX)
    }
    assert replaced
    assert all(callable(getattr(pysyncobj.syncobj.SyncObj, name, None)) for name in replaced)
    for name in ("_onTick", "_checkCommandsToApply", "_applyCommand", "isNodeConnected"):
        assert callable(getattr(pysyncobj.syncobj.SyncObj, name))


def test_the_module_globals_that_are_replaced_exist() -> None:
    for name in ("createJournal", "createPoller", "monotonicTime"):
        assert name in SyncObjGlobals
        assert name in pysyncobj.syncobj.SyncObj.__init__.__code__.co_names


SyncObjGlobals = pysyncobj.syncobj.SyncObj.__init__.__globals__


def test_roles_and_entry_kinds_have_the_stock_numbers() -> None:
    assert (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER) == (
        _RAFT_STATE.FOLLOWER,
        _RAFT_STATE.CANDIDATE,
        _RAFT_STATE.LEADER,
    )
    assert (Kind.REGULAR, Kind.NO_OP) == (_COMMAND_TYPE.REGULAR, _COMMAND_TYPE.NO_OP)


def test_a_core_leaves_the_stock_module_as_it_was(tmp_path: Path) -> None:
    before = dict(vars(pysyncobj.syncobj))
    Bench(tmp_path).elect()
    assert vars(pysyncobj.syncobj) == before
