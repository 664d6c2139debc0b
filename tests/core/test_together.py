"""Calls that wait and are answered together: each gets what it gets alone, and the host starts fewer kernels."""

import dataclasses
import weakref

import pytest
import torch
from counting_device import DEVICE, NAME, counting

from i2am_core import Logits, Positions, TokenGrid, TokenGroup, span
from i2am_core.attention import logsumexp, marginals, together
from i2am_core.attention.stacked import Part, StackedCall, alone
from i2am_core.attention.together import Request, Waiting
from i2am_core.errors import BadAttention

B, H, N, K, D = 2, 3, 12, 30, 16
REFERENCES = [span("a", 10, TokenGrid(2, 3)), span("b", 20, count=4)]
SCOPE = (torch.arange(N) % 3 == 0).expand(B, N)
MUCH = 2**26


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    known = logsumexp._KERNELS_OF_DEVICE
    monkeypatch.setattr(logsumexp, "_KERNELS_OF_DEVICE", known | {NAME: known["cuda"]})


def request(number, device=DEVICE, references=REFERENCES, rows=N, **given):
    g = torch.Generator().manual_seed(number)
    q, k = (torch.randn(B, H, n, D, generator=g).to(device) for n in (rows, K))
    return Request(q, k, references, **given)


def total_of(one):
    return (one.q @ one.k.mT * D**-0.5).logsumexp(-1)


def known_total(number, **given):
    one = request(number, **given)
    return dataclasses.replace(one, logits=Logits(total=total_of(one)))


KINDS = {
    "plain": lambda n: request(n),
    "all keys": lambda n: request(n, references=[span("all", 0, count=K)]),
    "row sums that are known": lambda n: known_total(n),
    "rows that are not all": lambda n: known_total(n, positions=Positions(slice(2, 9))),
    "gains of each": lambda n: request(n, positions=Positions(gain=torch.linspace(n, 2, N)[None])),
    "gains on the device": lambda n: request(n, positions=Positions(gain=torch.full((B, N), n + 0.5).to(DEVICE))),
    "a scope": lambda n: request(n, positions=Positions(scope=SCOPE)),
    "text beside": lambda n: request(n, beside=slice(0, 7)),
    "text beside, sums that are known": lambda n: known_total(n, beside=slice(0, 7), positions=Positions(slice(1, 8))),
    "half precision": lambda n: dataclasses.replace(request(n), q=request(n).q.half(), k=request(n).k.half()),
}  # fmt: skip


def answers_of(requests, most_bytes=MUCH):
    waiting, answers, errors = Waiting(most_bytes, MUCH), [], []
    for one in requests:
        waiting.put([one], answers.extend, errors.append)
    waiting.answer()
    assert not waiting
    return answers, errors


def assert_same(answer, expected):
    for maps, own in zip(answer.maps, expected.maps, strict=True):
        for name, values in vars(own).items():
            got = getattr(alone(maps), name)
            assert torch.equal(got, values) if isinstance(values, torch.Tensor) else got == values, name
    assert (answer.share_beside is None) == (expected.share_beside is None)
    if expected.share_beside is not None:
        share = answer.share_beside.float() if isinstance(answer.share_beside, Part) else answer.share_beside
        assert torch.allclose(share, expected.share_beside, rtol=1e-6, atol=0)


def assert_as_alone(answers, requests):
    for answer, one in zip(answers, requests, strict=True):
        assert_same(answer, one.answered(MUCH))


@pytest.mark.parametrize("kind", KINDS)
def test_each_gets_what_it_gets_alone(kind):
    requests = [KINDS[kind](number) for number in range(4)]
    answers, errors = answers_of(requests)
    assert not errors
    assert_as_alone(answers, requests)


def test_the_maps_of_all_are_made_at_once_and_nobody_waits(monkeypatch):
    requests = [KINDS["row sums that are known"](number) for number in range(5)]
    answers_of(requests)  # brings what lies on the host
    made, one_by_one = [], marginals._marginals
    monkeypatch.setattr(marginals, "_marginals", lambda c, *others: [made.append(c), one_by_one(c, *others)][1])
    with counting() as count:
        answers_of(requests)
    assert count.waits.total() == 0
    assert [c.shape[0] for c in made] == [len(requests) * B] * len(REFERENCES)


def test_answers_come_in_the_order_of_the_calls_however_they_are_joined():
    kinds = ["plain", "a scope", "plain", "all keys", "a scope"]
    requests = [KINDS[kind](number) for number, kind in enumerate(kinds)]
    for most_bytes in (MUCH, 16 * requests[0].nbytes, 4 * requests[0].nbytes):
        answers, _ = answers_of(requests, most_bytes)
        assert_as_alone(answers, requests)


def test_what_becomes_of_the_queries_and_keys_later_does_not_matter():
    first, other = request(1), request(2)
    expected = first.answered(MUCH)
    waiting, answers = Waiting(MUCH, MUCH), []
    for one in (first, other):
        waiting.put([one], answers.extend, pytest.fail)
        one.q.zero_(), one.k.zero_()
    waiting.answer()
    assert_same(answers[0], expected)


MASK = (torch.rand(1, 1, N, K, generator=torch.Generator().manual_seed(4)) < 0.7).to(DEVICE)
CELLS = TokenGroup("b", torch.tensor([20, 22, 25]), 3, TokenGrid(2, 2), cells=torch.tensor([0, 1, 3]))
ALONE = {
    "the CPU": lambda: request(1, device="cpu"),
    "a mask": lambda: request(1, logits=Logits(bias=MASK)),
    "pair maps": lambda: request(1, positions=Positions(pair_rows=torch.arange(3))),
    "scattered rows": lambda: request(1, positions=Positions(torch.arange(0, N, 2))),
    "scattered tokens": lambda: request(1, references=[CELLS]),
    "scattered text": lambda: request(1, beside=torch.tensor([1, 4])),
    "steered": lambda: request(1, attribute=lambda *given: together.attribute(*given)),
}  # fmt: skip


@pytest.mark.parametrize("kind", ALONE)
def test_those_that_are_answered_at_once(kind):
    waiting, order = Waiting(MUCH, MUCH), []
    waiting.put([request(2)], lambda answers: order.append("waited"), pytest.fail)
    waiting.put([ALONE[kind]()], lambda answers: order.append("at once"), pytest.fail)
    assert order == ["waited", "at once"]
    assert not waiting


def test_a_large_call_is_answered_at_once_and_copied_never(monkeypatch):
    monkeypatch.setattr(together, "Stack", pytest.fail)
    answers, _ = answers_of([request(1)], most_bytes=2 * request(1).nbytes - 1)
    assert len(answers) == 1


def test_what_waits_takes_no_more_than_it_may(monkeypatch):
    made, stack = [], together.Stack
    monkeypatch.setattr(together, "Stack", lambda first, capacity: [made.append(capacity), stack(first, capacity)][1])
    waiting, waits = Waiting(3 * request(0).nbytes + 9, MUCH), []
    for number in range(7):
        waiting.put([request(number)], lambda answers: None, pytest.fail)
        waits.append(len(waiting))
    assert waits == [1, 2, 0, 1, 2, 0, 1] and made == [3] * 3
    waiting.put([request(7, rows=N + 1)], lambda answers: None, pytest.fail)  # of another likeness, which is too much
    assert len(waiting) == 1


def waits_of(waiting, calls):
    """How many wait after each call that comes."""
    waits = []
    for number in range(calls):
        waiting.put([request(number)], lambda answers: None, pytest.fail)
        waits.append(len(waiting))
    return waits


def test_no_more_calls_wait_than_are_worth_it():
    waits = waits_of(Waiting(MUCH, MUCH), together.FIRST_CALLS + 1)
    assert waits == [*range(1, together.FIRST_CALLS), 0, 1]


@pytest.mark.parametrize(
    ("came", "stacks"),
    [(1, [1]), (9, [9]), (31, [31]), (32, [32]), (33, [17, 16]), (60, [31, 29]), (97, [25, 25, 25, 22])],
)
def test_as_many_wait_as_came_before(came, stacks, monkeypatch):
    """In stacks of about one size. What is full is answered at once, with all that wait."""
    answered, answers = [], together.Stack.answers
    monkeypatch.setattr(
        together.Stack, "answers", lambda self, *given: answered.append(len(self)) or answers(self, *given)
    )
    waiting = Waiting(MUCH, MUCH)
    for _ in range(3):
        answered.clear()
        waits_of(waiting, came)
        waiting.ended()
        assert len(waiting) == 0
    assert answered == stacks


def test_a_pass_without_calls_changes_nothing():
    """As one that is answered from memory."""
    waiting = Waiting(MUCH, MUCH)
    waits_of(waiting, 20)
    waiting.ended()
    waiting.ended()
    assert waits_of(waiting, 20) == [*range(1, 21)]


def test_other_calls_than_before_wait_as_at_first():
    waiting = Waiting(MUCH, MUCH)
    waits_of(waiting, 20)
    waiting.ended()
    for number in range(together.FIRST_CALLS):
        waiting.put([request(number, rows=N - 1)], lambda answers: None, pytest.fail)
    assert len(waiting) == 0


def test_a_call_that_waits_is_freed():
    one = request(1, beside=slice(0, 7))
    waiting, alive = Waiting(MUCH, MUCH), [weakref.ref(one.q), weakref.ref(one.k)]
    waiting.put([one], lambda answers: None, pytest.fail)
    del one
    assert [x() for x in alive] == [None, None]


def test_a_model_that_is_differentiated_is_none_of_a_copy():
    one = request(1)
    stack = together.Stack(one, 2)
    stack.put(dataclasses.replace(one, q=one.q.requires_grad_()))
    assert not stack._q.requires_grad


def test_of_keys_those_alone_are_copied_that_the_answer_depends_on():
    known = known_total(1, beside=slice(0, 7))
    columns = 6 + 4 + 7
    assert known.nbytes == 4 * B * H * (N + columns) * D and request(1).nbytes == 4 * B * H * (N + K) * D


def test_values_that_are_no_numbers_are_the_loss_of_their_call_alone():
    requests = [request(number) for number in range(3)]
    requests[1].q[0, 1, 3] = torch.nan
    answers, _ = answers_of(requests)
    assert [bool(answer.maps[0].holds) for answer in answers] == [True, False, True]


def test_an_error_is_the_loss_of_its_call_alone(monkeypatch):
    def short(self, chunk_bytes):
        if len(self.q) > B:
            raise torch.cuda.OutOfMemoryError("no memory for all together")
        if self.q.shape == broken.q.shape and torch.equal(self.q, broken.q):
            raise BadAttention("this one")
        return answered(self, chunk_bytes)

    answered, requests = Request.answered, [request(number) for number in range(3)]
    broken = requests[1]
    expected = [one.answered(MUCH) for one in requests]
    monkeypatch.setattr(Request, "answered", short)
    answers, errors = answers_of(requests)
    assert [str(error) for error in errors] == ["this one"]
    for answer, own in zip(answers, (expected[0], expected[2]), strict=True):
        assert_same(answer, own)


def test_so_is_one_in_what_is_beside(monkeypatch):
    requests = [request(number, beside=slice(0, 7)) for number in range(3)]
    expected = [one.answered(MUCH) for one in requests]
    share_of = together.share_of

    def short(q, *others):
        if len(q) > B or torch.equal(q, requests[1].q):
            raise torch.cuda.OutOfMemoryError("no memory for all together")
        return share_of(q, *others)

    monkeypatch.setattr(together, "share_of", short)
    answers, errors = answers_of(requests)
    assert not errors and [answer.error is None for answer in answers] == [True, False, True]
    assert answers[1].share_beside is None and len(answers[1].maps) == len(REFERENCES)
    for number in (0, 2):
        assert_same(answers[number], expected[number])


def test_so_is_one_in_what_is_done_with_the_answers():
    waiting, done, errors = Waiting(MUCH, MUCH), [], []

    def fails(answers):
        raise BadAttention("of another size")

    for then in (done.extend, fails, done.extend):
        waiting.put([request(1)], then, errors.append)
    waiting.answer()
    assert len(done) == 2 and [str(error) for error in errors] == ["of another size"]


def test_several_requests_of_a_call_are_answered_together():
    waiting, answers = Waiting(MUCH, MUCH), []
    calls = [[KINDS["plain"](number), KINDS["a scope"](number)] for number in range(3)]
    for requests in calls:
        waiting.put(requests, answers.append, pytest.fail)
    waiting.answer()
    for requests, own in zip(calls, answers, strict=True):
        assert_as_alone(own, requests)
    assert isinstance(answers[0][0].maps[0], StackedCall)


def no_memory_for(copied, monkeypatch):
    put = together.Stack.put

    def short(self, one):
        if one is copied:
            raise torch.cuda.OutOfMemoryError("no memory for the copy")
        put(self, one)

    monkeypatch.setattr(together.Stack, "put", short)


@pytest.mark.parametrize("number", [1, 3])
def test_a_call_that_could_not_be_copied_is_answered_at_once(number, monkeypatch):
    """Nor does it get the maps of the one that came after it, or that one its."""
    requests = [request(n) for n in range(4)]
    no_memory_for(requests[number], monkeypatch)
    waiting, answers, errors = Waiting(MUCH, MUCH), {}, []
    for n, one in enumerate(requests):
        waiting.put([one], lambda own, n=n: answers.update({n: own[0]}), errors.append)
    waiting.answer()
    assert not errors and len(answers) == len(requests)
    for n, answer in answers.items():
        assert_same(answer, requests[n].answered(MUCH))


def test_calls_for_whose_copies_there_is_no_memory_are_answered_at_once(monkeypatch):
    def short(first, capacity):
        raise torch.cuda.OutOfMemoryError("no memory for so many copies")

    monkeypatch.setattr(together, "Stack", short)
    requests = [request(number) for number in range(3)]
    answers, errors = answers_of(requests)
    assert not errors
    assert_as_alone(answers, requests)


def test_of_several_requests_all_are_copied_or_none(monkeypatch):
    calls = [[KINDS["plain"](number), KINDS["a scope"](number)] for number in range(3)]
    no_memory_for(calls[1][1], monkeypatch)
    waiting, answers = Waiting(MUCH, MUCH), []
    for requests in calls:
        waiting.put(requests, answers.append, pytest.fail)
    waiting.answer()
    for requests, own in zip(calls, answers, strict=True):
        assert_as_alone(own, requests)
