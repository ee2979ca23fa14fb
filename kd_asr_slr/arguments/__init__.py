"""What a run can be told: one dataclass per concern, a file each, and nothing else holds a default.

YAML files set only what differs from these defaults, the command line wins over YAML (see `command_line.py`).
Every class has `problems()`, a list of sentences, so that all of them can be reported at once.
"""

from kd_asr_slr.arguments.data import DataArguments
from kd_asr_slr.arguments.fields import at_least, one_of, option
from kd_asr_slr.arguments.model import ModelArguments
from kd_asr_slr.arguments.teachers import TeacherArguments
from kd_asr_slr.arguments.training import DistillationArguments

__all__ = [
    "DataArguments",
    "DistillationArguments",
    "ModelArguments",
    "TeacherArguments",
    "at_least",
    "one_of",
    "option",
]
