"""A page for each method and scenario, and one of published numbers, written from what they declare: ``python -m clbench.pages docs``.

Nothing in the pages is written by hand. They hold a method's docstrings, scenarios, parameters and recipes, a scenario's questions, the
streams' summaries, and the published numbers with their sources. The glossary's table of columns is written too.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from clbench import registry
from clbench.facts import Record, method_facts, scenario_facts, stream_facts, summary
from clbench.method import Method
from clbench.paper.published import ALL
from clbench.results.columns import MEASURED
from clbench.scenario import Scenario

INDEX = "README.md"
GLOSSARY = "glossary.md"
METRICS = (
    "<!-- The columns, written by `python -m clbench.pages docs` from clbench/results/columns.py -->",
    "<!-- End of the columns -->",
)
"""Between these two lines of the glossary stands its table of columns."""
WRITTEN = "<!-- Written by `python -m clbench.pages docs`: change the code that it describes, not this page. -->"


def pages() -> dict[str, str]:
    """The text of each page by its path: an index and a page for each of clbench's own methods and scenarios; published numbers."""
    zoo = {name: method for name, method in sorted(registry.methods().items()) if method.__module__.startswith("clbench.methods.")}
    texts = {f"methods/{INDEX}": index(zoo)} | {f"methods/{name}.md": page(method) for name, method in zoo.items()}
    texts |= {f"scenarios/{INDEX}": scenarios_index()}
    texts |= {"published.md": published_page()}
    return texts | {f"scenarios/{s.name.lower()}.md": scenario_page(s, zoo) for s in registry.scenarios().values()}


def published_page() -> str:
    """Every published number that clbench shows, with its source."""
    rows = [[each.quantity, each.shown, each.source, each.standing, each.setting] for each in ALL]
    return _joined(
        WRITTEN,
        "# Published numbers",
        "The published numbers in clbench's figures and tables, their sources, and how they were seen (second-hand: as others quote them). "
        "A number holds for its own setting.",
        _table(["quantity", "value", "source", "seen", "setting"], rows),
    )


def scenarios_index() -> str:
    """The paper's Table 1, and the streams."""
    rows = [
        [f"[{name}]({name.lower()}.md)", *map(str, facts)]
        for name, *facts in (scenario_facts(scenario).values() for scenario in registry.scenarios().values())
    ]
    streams = [list(map(str, stream_facts(builder).values())) for builder in registry.streams().values()]
    return _joined(
        WRITTEN,
        "# Scenarios and streams",
        "A scenario says what the learner is told; a stream is the tasks. Any stream can be put in any scenario.",
        _table(["scenario", "", "task space", "example methods, task names"], rows),
        "## What is not a scenario",
        "\n".join(f"- {reason}" for reason in dict.fromkeys(registry.INVALID_SCENARIOS.values())),
        "## Streams",
        _table(["stream", "tasks at most", "data", ""], streams),
    )


def scenario_page(scenario: Scenario, zoo: dict[str, type[Method]]) -> str:
    """What a learner is questions in a scenario, how it is scored, and which methods serve it."""
    questions = [
        ["the task while it learns", "yes" if scenario.task_given_in_training else "no"],
        ["the task when it is asked", "yes" if scenario.task_given_in_inference else "no"],
        ["labels shared by all tasks", "yes" if scenario.labels_shared else "no"],
    ]
    inferred = not (scenario.task_given_in_inference or scenario.labels_shared)
    and_task = ", and so is the task that it names" if inferred else ""
    chance = "1 / (classes × tasks)" if inferred else "1 / classes"
    serving = [[f"[{name}](../methods/{name}.md)", summary(method)] for name, method in zoo.items() if scenario in method.scenarios]
    return _joined(
        WRITTEN,
        f"# {scenario.name}",
        f"{scenario.description()}. Space of tasks: {scenario.task_space().lower()}.",
        _table(["the learner knows", ""], questions),
        f"An answer is correct if its label is{and_task}. Guessing is correct in {chance} of the cases.",
        f"Run a method in it: `clbench run --scenario {scenario.name.lower()} --method METHOD`.",
        "## Methods that serve it",
        _table(["method", ""], serving),
    )


def index(zoo: dict[str, type[Method]]) -> str:
    """Methods against scenarios."""
    scenarios = registry.scenarios().values()
    rows = [
        [f"[{name}]({name}.md)", *("yes" if s in method.scenarios else "" for s in scenarios), summary(method)]
        for name, method in zoo.items()
    ]
    return _joined(WRITTEN, "# Methods", _table(["method", *(s.name for s in scenarios), ""], rows))


def page(method: type[Method]) -> str:
    """What a method is, which scenarios it serves, and what can be set."""
    facts = method_facts(method)
    return _joined(
        WRITTEN,
        f"# {facts['name']}",
        facts["summary"],
        f"Scenarios: {', '.join(facts['scenarios'])}. " + " ".join(facts["declared"]),
        f"Citation: {facts['citation']}." if facts["citation"] else "",
        facts["description"],
        _section("Learning parameters (`--set`)", facts["learning parameters (--set)"], facts["notes on learning"]),
        _section("Asking parameters (`--ask`)", facts["asking parameters (--ask)"], facts["notes on asking"]),
        _section("Recipes", facts["recipes"]),
    )


def write(folder: Path) -> None:
    """Write all pages to ``folder``, and delete those of methods and scenarios that no longer exist."""
    written = pages()
    for kind in ("methods", "scenarios"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for old in (folder / kind).glob("*.md"):
            if f"{kind}/{old.name}" not in written:
                old.unlink()
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
    glossary = folder / GLOSSARY
    if glossary.exists():
        glossary.write_text(with_metrics(glossary.read_text(encoding="utf-8")), encoding="utf-8")


def with_metrics(glossary: str) -> str:
    """The text of the glossary with the table of all measured columns, as they are now."""
    before, _, rest = glossary.partition(METRICS[0])
    _, end, after = rest.partition(METRICS[1])
    if not end:
        raise ValueError(f"the glossary needs the lines {METRICS[0]!r} and {METRICS[1]!r} around its table of columns")
    rows = [
        [
            column.heading.removesuffix(" %") + ("" if column.default else " *"),
            f"`{column.name}`",
            column.meaning,
            column.formula,
            ("higher" if column.higher_is_better else "lower") if column.interval else "",
        ]
        for column in MEASURED
    ]
    return f"{before}{METRICS[0]}\n\n{_table(['column', 'name', 'what it is', 'formula', 'better'], rows)}\n\n{METRICS[1]}{after}"


def _section(title: str, records: Sequence[Record], notes: str = "") -> str:
    """A table of records under a title, and what there is to say about it; empty if there is no record."""
    if not records:
        return ""
    return _joined(f"## {title}", _table(list(records[0]), [[str(cell) for cell in each.values()] for each in records]), notes)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _joined(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Name the folder to write to: python -m clbench.pages docs")
    write(Path(sys.argv[1]))
