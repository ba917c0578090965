"""The values that panels show."""

import gc

from studiolo.views import Amount, JobView, Live, Resources, announce, announced


class Thing:
    def view(self):
        return JobView("run", "1", "train", "running", "Runs.")

    def act(self, action):
        raise AssertionError(action)


def test_what_is_announced_is_shown_as_long_as_it_lives():
    thing = Thing()
    assert isinstance(thing, Live)
    announce(thing)
    assert thing in announced()
    del thing
    gc.collect()
    assert not [one for one in announced() if isinstance(one, Thing)]


def test_parts_of_a_gpu_count_as_what_they_are_of_it():
    assert Resources(4, 1024, shards=1, shards_per_gpu=4).whole_gpus == 0.25
    assert Resources(4, 1024, gpus=2, shards_per_gpu=4).whole_gpus == 2


def test_amounts_add_up_and_unknown_money_stays_unknown():
    priced = Amount(1.0, 8.0, 2.5, "EUR")
    assert priced + priced == Amount(2.0, 16.0, 5.0, "EUR")
    assert (priced + Amount(1.0)).money is None


def test_only_what_changes_no_more_is_over():
    states = {
        state: JobView("run", "1", "x", state, "").is_over
        for state in ("waiting", "starting", "running", "stopping", "done", "failed", "cancelled", "unknown")
    }
    assert {state for state, over in states.items() if over} == {"done", "failed", "cancelled"}
