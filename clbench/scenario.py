"""The taxonomy of continual-learning scenarios (the paper's section 2 and Table 1)."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scenario:
    """What information a learner gets, and how its answers are scored.

    The name follows from three questions: is the task given (G) or not (N) in training; given or not in inference; and are the
    labels shared (s) or unshared (u) across tasks. With the task given in both, sharing makes no difference (a model that predicts
    shared labels predicts unshared ones with the given task), so GG needs no third letter.

    ``examples`` are the methods and task names that Table 1 lists; they are ignored in comparisons.
    """

    name: str
    task_given_in_training: bool
    task_given_in_inference: bool
    labels_shared: bool
    examples: str = field(default="", compare=False)

    def description(self) -> str:
        """The scenario in words, as Table 1 puts it."""
        training = "Given" if self.task_given_in_training else "Not given"
        inference = "Given" if self.task_given_in_inference else "Not given"
        labels = "" if self.task_given_in_inference else f"; {'shared' if self.labels_shared else 'unshared'} labels"
        return f"Task {training} during training, {inference} during inference{labels}"

    def task_space(self) -> str:
        """Whether the space of tasks may be continuous: unshared labels need discrete tasks (Table 1)."""
        return "Either" if self.labels_shared else "Discrete only"
