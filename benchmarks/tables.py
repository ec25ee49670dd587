"""Sets the kept tables into README.md, each between `<!-- table: NAME -->` and `<!-- end -->`.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
import re

from measuring import RESULTS, markdown

README = RESULTS.parent / "README.md"


def main() -> None:
    def table(match: re.Match[str]) -> str:
        path = RESULTS / f"{match[1]}.json"
        body = markdown(json.loads(path.read_text("utf-8"))) if path.exists() else "Not measured yet."
        return f"<!-- table: {match[1]} -->\n{body}\n<!-- end -->"

    text = README.read_text("utf-8")
    README.write_text(re.sub(r"<!-- table: ([\w-]+) -->.*?<!-- end -->", table, text, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
