"""The result of looking at one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """`found` says what is, `advice` what to change ("" for nothing). `fail` is what a mount cannot do without."""

    name: str
    state: State
    found: str
    advice: str = ""
