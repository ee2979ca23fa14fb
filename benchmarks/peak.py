"""Peak memory of one call in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# A text and not a function, so that nothing is imported in that process but what is measured.
PEAK_SCRIPT = """
import ctypes, gc, importlib, json, resource, sys

sys.path.insert(0, ".")
module, function, arguments = sys.argv[1:]
arguments = json.loads(arguments)
call = getattr(importlib.import_module(module), function)(**arguments)
call()  # lazily loaded kernels and thread pools are not what is measured
gc.collect()
if "kd_asr_slr.kernels.buffers" in sys.modules:  # memory that it kept would hide what it needs
    sys.modules["kd_asr_slr.kernels.buffers"].BUFFERS.clear()

if str(arguments.get("device", "cpu")).startswith("cuda"):
    import torch
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    print(torch.cuda.max_memory_allocated() - before)
    sys.exit()

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

try:
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts again from now
    before = status("VmRSS")
    call()
    print(max(status("VmHWM") - before, 0))
except OSError:  # not Linux, or not allowed: the highest mark since the process began
    scale = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    call()
    print(max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale - before, 0))
"""


def peak_memory(target: str, device: str = "cpu", **arguments: Any) -> int:
    """Peak bytes that a call adds, measured in a fresh process.

    Args:
        target: "file:prepare", a function of a file in this folder; it gets the arguments and returns the call to
            measure. What prepare itself allocates does not count.
        device: passed to prepare where it is not "cpu"; on a GPU the allocator's own peak is taken.
        arguments: of prepare; JSON values.

    Returns:
        Bytes above what was held before the call.
    """
    if device != "cpu":
        arguments["device"] = device
    # Freed blocks go back to the system at once, so that the peak is what was held and not what malloc kept.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    module, function = target.split(":")
    command = [sys.executable, "-c", PEAK_SCRIPT, module, function, json.dumps(arguments)]
    done = subprocess.run(command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{target} failed:\n{done.stderr}")
    return int(done.stdout.splitlines()[-1])
