"""GNu: the task is given during training only, and an answer is right if task and class are right (class-incremental learning)."""

from clbench.scenario import Scenario

GNU = Scenario(
    name="GNu",
    task_given_in_training=True,
    task_given_in_inference=False,
    labels_shared=False,
    examples='"Class learning", "Class-IL"',
)
