"""Keeps long texts from holding up an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LONG = 16_384  # characters; below, a thread would cost more than the work


async def off_loop_if_long(function: Callable[..., T], text: str, *arguments: object) -> T:
    """`function(text, *arguments)`, in a thread if the text is long."""
    if len(text) > LONG:
        return await asyncio.to_thread(function, text, *arguments)
    return function(text, *arguments)
