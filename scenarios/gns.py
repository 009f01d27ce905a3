"""GNs: the task is given during training only, and its labels mean the same in every task (domain-incremental learning)."""

from clbench.scenario import Scenario

GNS = Scenario(
    name="GNs",
    task_given_in_training=True,
    task_given_in_inference=False,
    labels_shared=True,
    examples='EWC, SI, "Domain learning", "Domain-IL"',
)
