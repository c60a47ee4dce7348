"""What the pipelines of `graphs` must answer, found without a scheduler."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.graph.plan import INGRESS, Edge, Plan, StagePlan
from stages.spec import TensorSpec
from tests.unit.pipeline.scheduler.graphs import Value, compute

__all__ = ["expected_answer", "expected_children"]


class _Evaluation:
    """What a pipeline must compute, found without a scheduler: each stage for each child, by need."""

    def __init__(self, plan: Plan, inputs: Mapping[str, bytes]) -> None:
        self._plan = plan
        self._inputs = inputs
        self._made: dict[tuple[str, tuple[int, ...]], dict[str, Value] | None] = {}

    def run(self, name: str, at: tuple[int, ...]) -> dict[str, Value] | None:
        """The own outputs of a stage for one child; None if the stage is skipped."""
        if (name, at) not in self._made:
            self._made[name, at] = self._run(self._plan.stage(name), at)
        return self._made[name, at]

    def _run(self, stage: StagePlan, at: tuple[int, ...]) -> dict[str, Value] | None:
        if stage.when is not None:
            asked = self.value(stage.when.edge, at, None)
            if asked is None or any(asked) is stage.when.negated:  # type: ignore[arg-type]
                return None
        taken: list[Value] = []
        for spec, edge, source in zip(stage.inputs, stage.edges, stage.sources):
            if self._is_skipped(source, at):
                if not spec.optional:
                    return None
                taken.append([] if spec.many is not None else None)
            else:
                taken.append(self.value(edge, at, spec))
        return {field.spec.name: compute(stage.name, field.spec, taken) for field in stage.fields}

    def _is_skipped(self, source: str, at: tuple[int, ...]) -> bool:
        """Whether what a stage reads was made for none of the reader's own children."""
        if source == INGRESS:
            return False
        scope = self._plan.stage(source).scope
        if len(scope) > len(at):
            return self._is_skipped(scope[-1], at)
        return self.run(source, at[: len(scope)]) is None

    def value(self, edge: Edge, at: tuple[int, ...], spec: TensorSpec | None) -> Value:
        """A tensor as a stage at `at` takes it."""
        if edge.producer == INGRESS:
            return self._inputs[edge.tensor]
        producer = self._plan.stage(edge.producer)
        depth = len(producer.scope)
        many = self._plan.output_spec(edge).many is not None
        if spec is not None and spec.many is not None and not many:
            made = self.run(producer.scope[-1], at[: depth - 1])
            count = max(len(value) for value in (made or {}).values() if isinstance(value, list))
            results = [self.run(edge.producer, (*at[: depth - 1], index)) for index in range(count)]
            return [None if result is None else result[edge.tensor] for result in results]  # type: ignore[misc]
        made = self.run(edge.producer, at[:depth])
        assert made is not None
        found = made[edge.tensor]
        if many and (spec is None or spec.many is None):
            assert isinstance(found, list)
            return found[at[depth]]
        return found


def expected_answer(plan: Plan, inputs: Mapping[str, bytes]) -> dict[str, bytes]:
    """What the pipeline must answer to these inputs, without what is skipped."""
    if plan.answer_each_child:
        return {}
    evaluation = _Evaluation(plan, inputs)
    answer = {}
    for (name, edge), source in zip(plan.outputs, plan.sources):
        if source == INGRESS or evaluation.run(source, ()) is not None:
            value = evaluation.value(edge, (), None)
            assert isinstance(value, bytes)
            answer[name] = value
    return answer


def expected_children(plan: Plan, inputs: Mapping[str, bytes]) -> list[dict[str, bytes]]:
    """What the pipeline must answer for each child, if each child is answered by itself."""
    if not plan.answer_each_child:
        return []
    evaluation = _Evaluation(plan, inputs)
    made = evaluation.run(plan.stage(plan.sources[0]).scope[0], ())
    count = max((len(value) for value in (made or {}).values() if isinstance(value, list)), default=0)
    children: list[dict[str, bytes]] = []
    for at in range(count):
        children.append({})
        for (name, edge), source in zip(plan.outputs, plan.sources):
            if evaluation.run(source, (at,)) is not None:
                value = evaluation.value(edge, (at,), None)
                assert isinstance(value, bytes)
                children[at][name] = value
    return children
