"""What several tests use."""

import os
import sys
from pathlib import Path

import pytest

# Some images set it for their own build; here each of the many processes of a run would compile all libraries anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What helpers assert is told with its values too; it must be said before they are imported.
pytest.register_assert_rewrite(
    *(f"{__name__}.{file.stem}" for file in sorted(Path(__file__).parent.glob("[a-z]*.py")))
)
