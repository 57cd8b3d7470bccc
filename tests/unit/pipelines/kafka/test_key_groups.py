"""Names of reader groups: read back exactly, and evenly spread over Flink's subtasks."""

from __future__ import annotations

import pytest

from pipelines.kafka.key_groups import MAX_PARALLELISM, group_elements, group_of, key_group


@pytest.mark.parametrize("groups", [1, 2, 3, 8, 64, MAX_PARALLELISM])
def test_an_element_says_which_group_of_how_many_it_is(groups: int) -> None:
    assert [group_of(element) for element in group_elements(groups)] == [(g, groups) for g in range(groups)]


@pytest.mark.parametrize(("groups", "parallelism"), [(2, 2), (4, 4), (4, 2), (8, 4), (3, 3), (6, 3)])
def test_every_subtask_gets_as_many_groups_as_the_others(groups: int, parallelism: int) -> None:
    subtasks = [key_group(e) * parallelism // MAX_PARALLELISM for e in group_elements(groups)]
    assert {subtasks.count(s) for s in range(parallelism)} == {groups // parallelism}


def test_two_groups_lie_where_flink_1_19_with_beam_2_70_was_seen_to_put_them() -> None:
    # at parallelism 4 the subtasks 2 and 4 opened them
    assert [key_group(e) * 4 // MAX_PARALLELISM for e in group_elements(2)] == [1, 3]
