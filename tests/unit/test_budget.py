"""The byte budget for data in flight."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fluidfs.fetch.budget import ByteBudget


async def taker(budget: ByteBudget, size: int, order: list[int]) -> None:
    await budget.take(size)
    order.append(size)


async def test_those_who_wait_are_served_in_the_order_they_came(nursery: trio.Nursery) -> None:
    budget, order = ByteBudget(10), list[int]()
    assert budget.try_take(8)
    for size in (9, 3, 1):
        nursery.start_soon(taker, budget, size, order)
        await wait_all_tasks_blocked()
    assert not budget.try_take(1)  # there is room, but others came first
    assert order == []
    budget.give(8)
    await wait_all_tasks_blocked()
    assert order == [9]  # 1 would fit, but 3 came before it
    budget.give(9)
    await wait_all_tasks_blocked()
    assert sorted(order) == [1, 3, 9]
    assert budget.taken_bytes == 4


async def test_more_than_there_is_is_served_alone(nursery: trio.Nursery) -> None:
    budget, order = ByteBudget(10), list[int]()
    await budget.take(1)
    nursery.start_soon(taker, budget, 1000, order)
    await wait_all_tasks_blocked()
    assert order == []
    budget.give(1)
    await wait_all_tasks_blocked()
    assert (order, budget.taken_bytes) == ([1000], 10)
    budget.give(1000)
    assert budget.taken_bytes == 0


async def test_a_waiter_that_is_cancelled_lets_those_behind_it_through(nursery: trio.Nursery) -> None:
    budget, order = ByteBudget(10), list[int]()
    await budget.take(5)
    with trio.move_on_after(0) as scope:
        nursery.start_soon(taker, budget, 3, order)
        await budget.take(6)
    assert scope.cancelled_caught
    await wait_all_tasks_blocked()
    assert (order, budget.taken_bytes) == ([3], 8)


async def test_a_waiter_cancelled_when_it_has_been_served_gives_back(autojump_clock: MockClock) -> None:
    budget = ByteBudget(10)
    await budget.take(10)

    async def cancelled_in_time(scope: trio.CancelScope) -> None:
        with scope:
            await budget.take(4)

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancelled_in_time, scope)
        await wait_all_tasks_blocked()
        budget.give(10)  # serves it,
        scope.cancel()  # and it learns of both at once
    assert budget.taken_bytes in (0, 4)
    assert budget.taken_bytes == (0 if scope.cancelled_caught else 4)


async def test_whatever_happens_the_total_is_kept_and_all_comes_back(autojump_clock: MockClock) -> None:
    rng, budget, most = random.Random(1), ByteBudget(100), 0

    async def use(size: int, wait_s: float, patience_s: float) -> None:
        nonlocal most
        with trio.move_on_after(patience_s):
            await budget.take(size)
            try:
                most = max(most, budget.taken_bytes)
                await trio.sleep(wait_s)
            finally:
                budget.give(size)

    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(use, rng.choice((0, 1, 50, 99, 100, 1000)), rng.random(), rng.random() * 20)
    assert most <= 100
    assert budget.taken_bytes == 0


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        ByteBudget(0)
