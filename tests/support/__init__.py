"""What several tests use."""

from pathlib import Path

import pytest

# What helpers assert is told with its values too; it must be said before they are imported.
pytest.register_assert_rewrite(
    *(f"{__name__}.{file.stem}" for file in sorted(Path(__file__).parent.glob("[a-z]*.py")))
)
