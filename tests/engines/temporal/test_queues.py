"""Task queues of tenants and labels: a run goes to the workers that are meant for it, and to no others."""

from __future__ import annotations

import json

import pytest

from app.engines.temporal.queues import TaskQueues
from tests.engines.temporal.cluster import Cluster
from tests.engines.temporal.flows import say, submit
from tests.engines.temporal.test_faults import owner_of


@pytest.mark.parametrize(
    ("tenant", "labels", "queue"),
    [
        ("acme", {}, "acme-runs"),
        ("acme", {"tier": "gpu"}, "acme-runs"),
        ("other", {"tier": "gpu"}, "gpu-runs"),
        ("other", {"tier": "cpu"}, "runs"),
        ("other", {"zone": "eu", "tier": "gpu"}, "gpu-runs"),
        ("other", {"zone": "eu"}, "eu-runs"),
        ("other", {}, "runs"),
    ],
)
def test_tenants_go_before_labels_and_labels_by_their_names(
    tenant: str, labels: dict[str, str], queue: str
) -> None:
    queues = TaskQueues(
        common="runs",
        by_tenant={"acme": "acme-runs"},
        by_label={"tier=gpu": "gpu-runs", "zone=eu": "eu-runs"},
    )
    assert queues.of(tenant, labels) == queue


@pytest.mark.temporal
def test_a_labelled_run_waits_for_a_worker_of_its_queue(cluster: Cluster) -> None:
    gpu = f"{cluster.namespace}-gpu"
    client = cluster.client(ORCHESTRATOR_TEMPORAL__LABEL_QUEUES=json.dumps({"tier=gpu": gpu}))
    common = cluster.worker()
    labelled = submit(client, say("a"), labels={"tier": "gpu"})
    plain = submit(client, say("a"))
    assert client.ended(plain)["status"] == "completed"
    assert owner_of(cluster, plain) == common.identity
    assert client.http.get(f"/v1/runs/{labelled}").json()["status"] == "pending"
    meant = cluster.worker(ORCHESTRATOR_TEMPORAL__TASK_QUEUE=gpu)
    assert client.ended(labelled)["status"] == "completed"
    assert owner_of(cluster, labelled) == meant.identity
