"""The autoscaler of Kubernetes, and what it makes of loads that change: the pods follow, and do not flap."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.autoscaling import (
    CHOSEN,
    CLAMP,
    END_S,
    SHAPES,
    Autoscaler,
    History,
    Kind,
    Policy,
    Rules,
    decide,
    replay,
    turns,
)  # fmt: skip
from pipeline.metrics.catalogue import METRICS

ROOT = Path(__file__).parents[3]
OVERLAYS = ROOT / "deploy/kubernetes/overlays"
FREE = Rules(0, (Policy("Percent", 1000, 15),))
PLAIN = Autoscaler(2.0, 1, 100, FREE, FREE)


def run(scaler: Autoscaler, pods: int, metrics: list[float | None], every_s: float = 15.0) -> list[int]:
    """The numbers of pods that it decides one after the other."""
    history, found = History(), []
    for number, metric in enumerate(metrics, 1):
        pods = decide(scaler, history, number * every_s, pods, pods, metric)
        found.append(pods)
    return found


@pytest.mark.parametrize(
    ("pods", "metric", "wanted"),
    [(4, 4.0, 8), (4, 3.0, 6), (3, 2.5, 4), (4, 2.19, 4), (4, 1.81, 4), (4, 1.0, 2), (4, 0.0, 1), (4, None, 4), (90, 4.0, 100)],
)
def test_the_formula(pods: int, metric: float | None, wanted: int) -> None:
    assert run(PLAIN, pods, [metric]) == [wanted]


def test_an_average_value_is_of_a_sum() -> None:
    scaler = replace(PLAIN, kind=Kind.AVERAGE)
    assert [run(scaler, 4, [metric])[0] for metric in (8.0, 8.7, 9.0, 20.0, 3.9)] == [4, 4, 5, 10, 2]


def test_pods_that_are_not_ready_do_not_count() -> None:
    assert decide(PLAIN, History(), 0.0, 6, 2, 4.0) == 4


def test_it_goes_down_to_the_most_of_its_window_and_up_to_the_least() -> None:
    down = replace(PLAIN, down=Rules(60, FREE.policies))
    assert run(down, 8, [2.0, 1.0, 1.0, 1.0, 1.0]) == [8, 8, 8, 8, 4]
    up = replace(PLAIN, up=Rules(30, FREE.policies))
    assert run(up, 2, [2.0, 6.0, 4.0]) == [2, 2, 4]


def test_a_policy_bounds_what_changes_within_its_period() -> None:
    up = replace(PLAIN, up=Rules(0, (Policy("Percent", 50, 60), Policy("Pods", 1, 60))))
    # 50 % of 10 within a minute, counted from what there was at its beginning.
    assert run(up, 10, [20.0] * 6) == [15, 15, 15, 15, 23, 23]
    # Of two, the one that allows more.
    assert run(up, 1, [20.0] * 2) == [2, 2]
    down = replace(PLAIN, down=Rules(0, (Policy("Percent", 25, 60),)))
    assert run(down, 10, [0.1] * 5) == [7, 7, 7, 7, 5]


TIMES = [0.18, 0.2, 0.2, 0.22, 0.25]
BUSIEST = 6.0


@pytest.mark.parametrize("shape", SHAPES)
def test_pods_follow_the_load_and_do_not_flap(shape: str) -> None:
    mean = sum(TIMES) / len(TIMES)
    found = replay(CHOSEN, lambda at: BUSIEST / mean * SHAPES[shape](at), END_S, TIMES, seed=5, pods=3)
    counts = [each.pods for each in found]
    # A wave of two periods goes up and down twice.
    assert turns(counts) <= (3 if shape == "sine" else 1)
    # After the quarter of an hour that a change may take there are enough pods, and not many times as many.
    settled = [each for each in found if each.at > 900 and (shape != "step" or 1200 < each.at < 2100)]
    busy = [each.rate * mean for each in settled]
    assert all(each.pods > needs for each, needs in zip(settled, busy, strict=True))
    assert max(counts) <= 3.5 * BUSIEST
    late = [each for each in found if each.p99 is not None and each.p99 > 10]
    assert len(late) <= len(found) * 0.08


def test_without_its_windows_it_flaps() -> None:
    mean = sum(TIMES) / len(TIMES)
    nervous = replace(CHOSEN, up=FREE, down=Rules(0, (Policy("Percent", 100, 15),)))
    found = replay(nervous, lambda at: BUSIEST / mean * SHAPES["sine"](at), END_S, TIMES, seed=5, pods=3)
    assert turns([each.pods for each in found]) > 10


def rules_of(behaviour: dict[str, Any]) -> Rules:
    policies = tuple(Policy(each["type"], each["value"], each["periodSeconds"]) for each in behaviour["policies"])
    assert behaviour["selectPolicy"] == "Max"
    return Rules(behaviour["stabilizationWindowSeconds"], policies)


def test_the_manifests_have_the_chosen_numbers() -> None:
    hpa = yaml.safe_load((OVERLAYS / "autoscaling/autoscaler.yaml").read_text())["spec"]
    target = hpa["metrics"][0]["external"]["target"]
    assert Autoscaler(
        float(target["value"]), hpa["minReplicas"], hpa["maxReplicas"], rules_of(hpa["behavior"]["scaleUp"]),
        rules_of(hpa["behavior"]["scaleDown"]), kind=Kind(target["type"]),
    ) == CHOSEN  # fmt: skip
    keda = yaml.safe_load((OVERLAYS / "keda/scaledobject.yaml").read_text())["spec"]
    behaviour = keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (trigger,) = keda["triggers"]
    assert Autoscaler(
        float(trigger["metadata"]["threshold"]), keda["minReplicaCount"], keda["maxReplicaCount"],
        rules_of(behaviour["scaleUp"]), rules_of(behaviour["scaleDown"]), kind=Kind(trigger["metricType"]),
    ) == CHOSEN  # fmt: skip


def test_the_queries_are_of_metrics_that_there_are() -> None:
    (rule,) = yaml.safe_load((OVERLAYS / "autoscaling/adapter-rules.yaml").read_text())["rules"]["external"]
    hpa = yaml.safe_load((OVERLAYS / "autoscaling/autoscaler.yaml").read_text())["spec"]
    assert hpa["metrics"][0]["external"]["metric"]["name"] == rule["name"]["as"]
    keda = yaml.safe_load((OVERLAYS / "keda/scaledobject.yaml").read_text())["spec"]["triggers"][0]["metadata"]["query"]
    names = {each.name for each in METRICS}
    for query in (rule["metricsQuery"], keda):
        assert f", {CLAMP:g})" in query
        for metric in ("trtlab_load_ratio_sum", "trtlab_load_ratio_count", "trtlab_ready"):
            assert f"{metric}{{" in query
            assert metric.removesuffix("_sum").removesuffix("_count") in names
