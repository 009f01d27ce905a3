"""NNs: the task is never given. The learner gets one batch after another and has to infer the rest (task-agnostic learning)."""

from clbench.scenario import Scenario

NNS = Scenario(
    name="NNs",
    task_given_in_training=False,
    task_given_in_inference=False,
    labels_shared=True,
    examples='BGD, "Continuous/discrete task agnostic learning"',
)
