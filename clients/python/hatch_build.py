"""Build hook of the wheel. With SEQUOR_WHEEL_BINARY, the wheel installs this daemon as the command `sequor`.

Without the variable, the wheel holds the client alone and runs on every platform. packaging/build sets it.
"""

import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DaemonHook(BuildHookInterface[Any]):
    """Puts an existing binary into the wheel's scripts, and the platform into its tag."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        binary = os.environ.get("SEQUOR_WHEEL_BINARY")
        if binary is None or self.target_name != "wheel" or version == "editable":
            return
        if not os.access(binary, os.X_OK) or not Path(binary).is_file():
            raise SystemExit(f"SEQUOR_WHEEL_BINARY is {binary}, which is not an executable file")
        # auditwheel replaces this tag with that of the oldest glibc that the binary needs.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["shared_scripts"][str(Path(binary).resolve())] = "sequor"
