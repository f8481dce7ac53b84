"""The check that guards a repository's checkpoints: ``lstmconv check``, and the pre-commit hook of that name.

:mod:`~lstmconv.checking.running` goes over the files; :mod:`~lstmconv.checking.weight_rules` looks at one file's
layers, :mod:`~lstmconv.checking.twins` at the files converted from it, :mod:`~lstmconv.checking.settings` at
``[tool.lstmconv]``. No framework is loaded without ``deep``.
"""

from lstmconv.checking.findings import RULES, CheckResult, Finding
from lstmconv.checking.running import check, checked

__all__ = ["RULES", "CheckResult", "Finding", "check", "checked"]
