"""Scores the results file of any detector, as the installed command ``cqdino-evaluate`` does.

Example:
    python projects_tools/evaluate_results.py --protocol v3det \\
        --annotations v3det_2023_v1_val.json --results results.json \\
        --category-tree v3det_2023_v1_category_tree.json --output metrics.json
"""

from __future__ import annotations

import sys

from cqdino_d2.reports.command import main

if __name__ == "__main__":
    sys.exit(main())
