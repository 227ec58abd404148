"""Writes bench-results/NAME.md and its plots; for the published run, the figures of README too."""

import argparse

from benches import record
from benches.report import blocks, plots
from benches.report.page import page, repeated
from benches.report.results import PUBLISHED, Results


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("name")
    options.add_argument("--second", help="another run, to compare with")
    asked = options.parse_args()
    results = Results(asked.name)
    if not results.about:
        raise SystemExit(f"no bench-results/{asked.name}.jsonl: run `make bench`")
    if asked.second:
        text = repeated(results, Results(asked.second))
        (record.RESULTS / f"{asked.name}-repeated.md").write_text(text)
        print(text)
        return
    plots.draw(results)
    (record.RESULTS / f"{asked.name}.md").write_text(page(results))
    if asked.name == PUBLISHED:
        blocks.fill_pages()
    print(f"bench-results/{asked.name}.md")


if __name__ == "__main__":
    main()
