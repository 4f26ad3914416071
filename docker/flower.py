"""Flower's login, from the file that FLOWER_BASIC_AUTH_FILE names: `celery … flower --conf=docker/flower.py`."""

from __future__ import annotations

import os
from pathlib import Path

basic_auth = [Path(os.environ["FLOWER_BASIC_AUTH_FILE"]).read_text().strip()]
