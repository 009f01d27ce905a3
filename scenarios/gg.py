"""GG: the task is given during training and inference (task-incremental learning)."""

from clbench.scenario import Scenario

GG = Scenario(
    name="GG",
    task_given_in_training=True,
    task_given_in_inference=True,
    labels_shared=True,
    examples='PNN, BatchE, PSP, "Task learning", "Task-IL"',
)
