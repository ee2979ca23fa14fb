"""The trees and helpers of other rooms' tests serve here too."""

from __future__ import annotations

import sys
from pathlib import Path

for room in ("recipes", "corpora"):
    sys.path.append(str(Path(__file__).resolve().parents[1] / room))
