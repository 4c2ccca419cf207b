"""Label Studio's SDK in a folder of its own: its requirements contradict those of this project."""

import subprocess
import sys
from pathlib import Path

from tagmill.files import atomic_write, user_cache

#: the SDK, and what it imports to check tasks beside what this project installs; the rest would take 480 MB
PACKAGES = (
    *("label-studio-sdk==2.1.2", "appdirs==1.4.4", "attrs==26.1.0", "faker==40.63.0", "jsf==0.11.2"),
    *("jsonschema==4.26.0", "jsonschema-specifications==2025.9.1", "lxml==6.1.3", "pyjwt==2.13.0"),
    *("referencing==0.37.0", "rpds-py==2026.9.1", "rstr==3.2.2", "smart-open==9.0.2", "wrapt==2.5.2", "xmljson==0.2.1"),
)


def sdk_folder() -> Path:
    """Return the folder to import the SDK from. It is installed once, which takes some seconds."""
    version = f"{PACKAGES[0]}-py{sys.version_info.major}{sys.version_info.minor}"
    folder = user_cache() / "tests" / version
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as temporary:
            pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", temporary)
            subprocess.run([*pip, *PACKAGES], check=True)
    return folder
