"""Roles grant what they grant, each one more than the one before."""

from __future__ import annotations

from itertools import pairwise

from app.services.principal import GRANTS, Permission, Principal


def test_a_principal_without_roles_may_nothing() -> None:
    nobody = Principal(tenant="t", subject="s", roles=frozenset())
    assert not any(nobody.may(permission) for permission in Permission)


def test_each_role_includes_the_one_before_it() -> None:
    for lesser, greater in pairwise(GRANTS.values()):
        assert lesser < greater or lesser == greater == frozenset(Permission)


def test_a_viewer_reads_and_changes_nothing() -> None:
    viewer = Principal(tenant="t", subject="s", roles=frozenset({"viewer"}))
    allowed = {permission for permission in Permission if viewer.may(permission)}
    assert allowed == {permission for permission in Permission if permission.value.endswith(":read")}
