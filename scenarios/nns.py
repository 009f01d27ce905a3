"""NNs: the task is never given; batches follow each other and the learner finds out by itself (task-agnostic learning)."""

from clbench.scenario import Scenario

NNS = Scenario(
    name="NNs",
    task_given_in_training=False,
    task_given_in_inference=False,
    labels_shared=True,
    examples='BGD, "Continuous/discrete task agnostic learning"',
)
