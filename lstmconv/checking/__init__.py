"""``lstmconv check`` and its pre-commit hook: check the checkpoints of a repository.

:mod:`~lstmconv.checking.running` iterates over the files; :mod:`~lstmconv.checking.weight_rules` checks one file's
layers, :mod:`~lstmconv.checking.twins` the files converted from it, and :mod:`~lstmconv.checking.settings`
reads ``[tool.lstmconv]``. No framework is loaded without ``deep``.
"""

from lstmconv.checking.findings import RULES, CheckResult, Finding
from lstmconv.checking.running import check, checked
from lstmconv.checking.searching import checkpoints_in

__all__ = ["RULES", "CheckResult", "Finding", "check", "checked", "checkpoints_in"]
