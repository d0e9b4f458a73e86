"""A test per fault of Replicate, through the whole lab: money, state and data are right afterwards.

Each begins with a lab that has nothing, asks for one run, and lets time pass until nothing is under way.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress

import pytest

from simpletuner_lab.core.job import JobState
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.replicate_emulator import Fault, Shape, Status, WebhookFault
from tests.disk_kit import fill, mounted
from tests.e2e.replicate.house_kit import ANN, Died, House, Refused, house
from tests.e2e.replicate.truth import Witness

COMPLETED, FAILED, CANCELLED = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED

FAULTS = {
    "401": {"status": 401}, "402": {"status": 402}, "404": {"status": 404}, "409": {"status": 409}, "422": {"status": 422},
    "429": {"status": 429}, "429-later": {"status": 429, "retry_after_s": 30}, "429-bare": {"status": 429, "ratelimit": False},
    "500": {"status": 500}, "502": {"status": 502}, "503": {"status": 503}, "502-html": {"status": 502, "html": True},
    "html": {"html": True}, "truncated": {"truncated": True}, "hung": {"held": True}, "lost": {"lost": True},
}  # fmt: skip
HANGS_S = 20.0
REFUSALS = frozenset({"401", "402", "404", "409", "422"})
"""After these nothing was done, and asking again would not help."""

QUICK = {
    "predictions.create": ("402", "429-later", "truncated", "hung", "lost"),
    "files.create": ("truncated", "lost"),
    "predictions.get": ("404", "html"),
    "files.delete": ("404",),
    "predictions.list": ("500",),
    "predictions.cancel": ("lost",),
}
"""Those of `make test`; all others are slow tests."""


def slow(*parameters):
    """A case that is left to `make test-slow`."""
    return pytest.param(*parameters, marks=pytest.mark.slow)


def cases(*routes: str) -> list:
    return [
        pytest.param(
            route, fault, id=f"{route}-{fault}", marks=() if fault in QUICK.get(route, ()) else pytest.mark.slow
        )
        for route in routes
        for fault in FAULTS
    ]


@contextmanager
def witnessed(nursery, folder, **settings):
    """A house whose time passes under a witness."""
    with house(nursery, folder, timeout_s=0.4, **settings) as lab:
        yield lab, Witness(lab)


def ends(lab: House, witness: Witness, *, how: str = "quick", then=lambda job: None) -> tuple[JobState, str]:
    """One job from submit to its end, everything checked; its state and the code of its failure."""
    request = lab.request(how)
    digest = lab.ask("plan", request)
    witness.consented.add(digest)
    job = lab.ask("submit", request, digest, None)
    then(job)
    lab.until_settled(look=witness.look)
    witness.check_end()
    job = lab.job(job.id)
    return job.state, job.failure.code if job.failure else ""


def failing(lab: House, route: str, fault: str, times: int = 1) -> None:
    """From now on. What hangs is done after all, long after nobody waits for it any more."""
    made = Fault(**FAULTS[fault], times=times)
    lab.emulator.fail(route, made)
    until = lab.emulator.now() + HANGS_S

    def let_go() -> None:
        if lab.emulator.now() >= until:
            made.release()

    lab.after_a_pass = let_go


@pytest.mark.parametrize(("route", "fault"), cases("predictions.create"))
def test_a_start_goes_wrong(nursery, tmp_path, route, fault):
    """Refused: the job fails and nothing is paid. Anything else: it is started, once."""
    with witnessed(nursery, tmp_path) as (lab, witness):
        failing(lab, route, fault)
        state, code = ends(lab, witness)
        assert state is (FAILED if fault in REFUSALS else COMPLETED)
        assert len(lab.emulator.predictions) == (0 if fault in REFUSALS else 1)
        assert code == {"401": "token_unusable", "402": "out_of_credit"}.get(fault, code)
        assert bool(code) == (fault in REFUSALS)


@pytest.mark.parametrize(("route", "fault"), cases("files.create"))
def test_an_upload_goes_wrong(nursery, tmp_path, route, fault):
    with witnessed(nursery, tmp_path) as (lab, witness):
        failing(lab, route, fault)
        state, _ = ends(lab, witness)
        assert state is (FAILED if fault in {*REFUSALS, "html", "truncated"} else COMPLETED)


@pytest.mark.parametrize(("route", "fault"), cases("predictions.get", "files.delete", "files.list"))
def test_a_question_goes_wrong(nursery, tmp_path, route, fault):
    """For so long that asking again at once does not help: whatever is answered, the job ends as its run does."""
    with witnessed(nursery, tmp_path) as (lab, witness):
        failing(lab, route, fault, times=1 if fault == "hung" else 4)
        assert ends(lab, witness)[0] is COMPLETED
        assert len(lab.emulator.predictions) == 1


@pytest.mark.parametrize(("route", "fault"), cases("files.get"))
def test_whether_the_data_are_there_cannot_be_told(nursery, tmp_path, route, fault):
    """That is asked before a start: a plain no ends the job, and nothing is paid; anything else is waited out."""
    with witnessed(nursery, tmp_path) as (lab, witness):
        failing(lab, route, fault, times=1 if fault == "hung" else 4)
        refused = fault in {*REFUSALS, "html", "truncated"}
        assert ends(lab, witness)[0] is (FAILED if refused else COMPLETED)
        assert len(lab.emulator.predictions) == (0 if refused else 1)


@pytest.mark.parametrize(("route", "fault"), cases("predictions.list"))
def test_a_lost_start_is_looked_for_in_vain(nursery, tmp_path, route, fault):
    """Until it can be told what became of the first create there is no second one."""
    with witnessed(nursery, tmp_path) as (lab, witness):
        lab.emulator.fail("predictions.create", Fault(lost=True))
        failing(lab, route, fault, times=1 if fault == "hung" else 4)
        assert ends(lab, witness)[0] is COMPLETED
        assert len(lab.emulator.predictions) == 1


@pytest.mark.parametrize(("route", "fault"), cases("predictions.cancel"))
def test_a_cancel_goes_wrong(nursery, tmp_path, route, fault):
    with witnessed(nursery, tmp_path) as (lab, witness):

        def cancelled(job) -> None:
            lab.pass_time()
            lab.pass_time(10)
            failing(lab, route, fault, times=1 if fault == "hung" else 4)
            lab.ask("cancel", job.id)

        assert ends(lab, witness, how="slow", then=cancelled)[0] is CANCELLED
        assert [one.status for one in lab.emulator.predictions] == [Status.CANCELED]
        assert lab.emulator.charges[0].usd > 0


@pytest.mark.parametrize(
    ("how", "state", "code", "runs"),
    [
        ("segments", COMPLETED, "", 3),
        slow("worker-crash", COMPLETED, "", 2),
        ("too-long", COMPLETED, "", 2),
        ("crash", FAILED, "nan_loss", 1),
        ("no-setup", FAILED, "run_failed", 1),
        slow("torn", FAILED, "result_missing", 1),
        slow("nothing", FAILED, "result_missing", 1),
        slow("silent", COMPLETED, "", 1),
    ],
)
def test_a_run_ends_in_its_own_way(nursery, tmp_path, how, state, code, runs):
    """One job to the user, each of its runs in the ledger."""
    with witnessed(nursery, tmp_path) as (lab, witness):
        assert ends(lab, witness, how=how) == (state, code)
        assert len(lab.emulator.predictions) == len(lab.charges()) == runs


# ------------------------------------------------------------------------------------------------------------ webhooks

WEBHOOKS = {
    "dropped": {"dropped": True}, "duplicate": {"duplicate": True}, "reordered": {"reordered": True}, "late": {"late_s": 400.0},
    "bad-signature": {"bad_signature": True}, "old": {"old_timestamp": True}, "rotated": {"rotated": True},
}  # fmt: skip


@pytest.mark.parametrize(
    "fault", ["dropped", "reordered", "rotated", slow("duplicate"), slow("late"), slow("bad-signature"), slow("old")]
)
def test_webhooks_go_wrong(nursery, tmp_path, fault):
    """All of them; what is not signed, or old, is refused; and polls alone bring the job to its end."""
    with witnessed(nursery, tmp_path) as (lab, witness):
        lab.emulator.fail("webhook", WebhookFault(**WEBHOOKS[fault], times=1 if fault == "rotated" else 1000))
        assert ends(lab, witness)[0] is COMPLETED
        lab.pass_time(600)
        answers = {one.status for one in lab.emulator.deliveries}
        refused = fault in {"bad-signature", "old"}
        assert answers == (set() if fault == "dropped" else {403} if refused else {200})


def test_webhooks_come_while_nobody_is_there(nursery, tmp_path):
    """Ended and told of in vain, with its log removed, an hour before our server is back: the result was at home."""
    with witnessed(nursery, tmp_path) as (lab, witness):

        def killed(job) -> None:
            lab.emulator.fail("webhook", WebhookFault(words=("output", "logs", "completed"), dropped=True, times=1000))
            lab.pass_time()
            lab.emulator.advance(9.5)
            witness.look()
            lab.kill()
            lab.emulator.advance(2 * 3600)
            lab.restart()

        assert ends(lab, witness, then=killed)[0] is COMPLETED
        assert lab.emulator.predictions[0].data_removed


# --------------------------------------------------------------------------------------------------- what is not as told


def test_an_aborted_run_is_cancelled_and_costs_nothing(nursery, tmp_path):
    with witnessed(nursery, tmp_path) as (lab, witness):
        lab.emulator.conduct.queue_s = 600

        def aborted(job) -> None:
            lab.pass_time(5)
            lab.emulator.abort(lab.emulator.predictions[0].id)

        assert ends(lab, witness, then=aborted)[0] is CANCELLED
        assert [charge.cost_usd for charge in lab.charges()] == [0.0]


@pytest.mark.parametrize("told", [{"shown_status": "pondering"}, slow({"logs_tail": 20}), {"shape": Shape.YEAR_2024}])
def test_answers_that_nobody_has_documented(nursery, tmp_path, told):
    """An unknown status moves nothing, a log that was cut takes nothing back, and few members are enough."""
    with witnessed(nursery, tmp_path) as (lab, witness):
        for route in ("predictions.get", "predictions.create"):
            lab.emulator.fail(route, Fault(**told, times=1 if "logs_tail" in told else 4))
        assert ends(lab, witness)[0] is COMPLETED
        assert lab.ask("log", lab.jobs()[0].id).count("step 7 of 12") == 1


def test_the_data_expire_before_the_start(nursery, tmp_path):
    """They are handed over again, and nothing of either upload is left."""
    with witnessed(nursery, tmp_path) as (lab, witness):
        lab.emulator.fail("predictions.create", Fault(status=429))

        def waited(job) -> None:
            lab.pass_time()
            assert len(lab.emulator.files(ANN)) == 1
            lab.emulator.advance(25 * 3600)
            assert lab.emulator.files(ANN) == ()
            lab.pass_time()

        assert ends(lab, witness, then=waited)[0] is COMPLETED
        uploads = [one for one in lab.emulator.seen if one.route == "files.create"]
        assert [one.status for one in uploads] == [201, 201]


@pytest.mark.parametrize(("decision", "state", "runs"), [("give_up", FAILED, 1), slow("resend", COMPLETED, 2)])
def test_a_start_of_which_nobody_can_tell_waits_for_its_user(nursery, tmp_path, decision, state, runs):
    """Its answer was lost, and an hour after its end Replicate has forgotten whose it was: a second is not sent by itself."""
    with witnessed(nursery, tmp_path) as (lab, witness):
        lab.emulator.fail("predictions.create", Fault(lost=True))
        lab.emulator.fail("predictions.list", Fault(status=503, times=4))
        job = lab.submit("quick")
        witness.consented.add(job.digest)
        lab.pass_time()
        lab.kill()
        lab.emulator.advance(1)
        witness.look()
        lab.emulator.advance(2 * 3600)
        lab.restart()
        for _ in range(12):
            lab.pass_time(300)
        assert (lab.job(job.id).uncertain, len(lab.emulator.predictions)) == (True, 1)
        lab.ask("resolve", job.id, decision)
        lab.until_settled(look=witness.look)
        assert (lab.job(job.id).state, len(lab.emulator.predictions)) == (state, runs)
        assert lab.emulator.files(ANN) == ()
        theirs = {one.prediction_id for one in lab.emulator.charges}
        (first,) = {charge.ref for charge in lab.charges()} - theirs
        assert first == f"start/{job.id}/1", "what it may have cost, as long as its run is not known"
        lab.ask("sync")
        lab.until_settled()
        assert {charge.ref for charge in lab.charges()} == theirs, "each once"
        paid = sum(one.usd for one in lab.emulator.charges)
        assert sum(charge.cost_usd for charge in lab.charges()) == pytest.approx(paid)


def test_the_account_has_no_credit_left(nursery, tmp_path):
    with witnessed(nursery, tmp_path) as (lab, witness):
        assert ends(lab, witness)[0] is COMPLETED
        lab.emulator.conduct.credit_usd = 0.001
        assert ends(lab, witness) == (FAILED, "out_of_credit")
        assert len(lab.emulator.predictions) == 1


# ------------------------------------------------------------------------------------------------------------- consent


def test_nothing_leaves_without_consent_for_what_leaves(nursery, tmp_path):
    with witnessed(nursery, tmp_path) as (lab, witness):
        request = lab.request("quick")
        digest = lab.ask("plan", request)
        with pytest.raises(Refused, match="consent_required"):
            lab.ask("submit", request, None, None)
        (lab.images / "0.txt").write_text("another caption\n")
        with pytest.raises(Refused, match="plan_changed"):
            lab.ask("submit", request, digest, None)
        lab.ask("forbid")
        with pytest.raises(Refused, match="uploads_forbidden"):
            lab.ask("submit", request, lab.ask("plan", request), None)
        lab.pass_time(60)
        assert lab.jobs() == ()
        assert {one.method for one in lab.emulator.seen} == {"GET"}
        witness.check_end()


def test_what_changes_after_consent_does_not_leave(nursery, tmp_path):
    with witnessed(nursery, tmp_path) as (lab, witness):

        def changed(job) -> None:
            lab.kill()  # before it was packed, or after: that is what the spool is for
            (lab.images / "0.txt").write_text("another caption\n")
            lab.restart()

        state, code = ends(lab, witness, then=changed)
        assert (state, code) in {(COMPLETED, ""), (FAILED, "plan_changed")}
        if code:
            assert "files.create" not in {one.route for one in lab.emulator.seen}


# ---------------------------------------------------------------------------------------------------------------- kills

LIFE = 60
"""A job's life has so many steps before which a process may die; those of `make test` are spread over it."""


def test_the_disk_is_full_for_a_while(nursery, tmp_path):
    """First nothing is taken on, then nothing is written down of what goes on; nothing is paid twice for it."""
    with mounted(tmp_path / "small", "24m") as place, witnessed(nursery, place) as (lab, witness):
        filler, request = place / "filler", lab.request("quick", learning_rate=0.5)
        digest = lab.ask("plan", request)
        fill(filler)
        with pytest.raises(Refused, match="disk_full"):
            lab.ask("submit", request, digest, None)
        filler.unlink()

        def without_room(_job) -> None:
            fill(filler)
            lab.emulator.advance(20)
            eventually(lambda: nursery.log().count("no room left") > 2)
            assert not lab.emulator.predictions
            filler.unlink()

        assert ends(lab, witness, then=without_room) == (COMPLETED, "")
        assert len(lab.emulator.predictions) == 1


@pytest.mark.parametrize(
    "step",
    [pytest.param(step, marks=() if step in {14, 31} else pytest.mark.slow) for step in range(1, LIFE)],
)
def test_killed_before_a_step(nursery, tmp_path, step):
    """SIGKILL before the nth time that something is stored, written or asked, twice: the job ends as if nothing had been."""
    with witnessed(nursery, tmp_path) as (lab, witness):

        def killed(_job) -> None:
            for _ in range(2):
                with suppress(Died):
                    lab.ask("die_in", step)
                    for _ in range(4):
                        lab.pass_time(4)
                lab.restart()

        state, _ = ends(lab, witness, then=killed)
        assert state is COMPLETED
        numbers = [one.id for one in lab.emulator.predictions]
        assert len(numbers) in {1, 2}  # two: its result found nobody at home


@pytest.mark.parametrize("route", ["predictions.create", slow("files.create"), slow("files.delete")])
def test_killed_while_an_answer_is_on_its_way(nursery, tmp_path, route):
    """What was asked is done there, and whoever asked is dead."""
    with witnessed(nursery, tmp_path) as (lab, witness):
        fault = Fault(held=True)
        lab.emulator.fail(route, fault)

        def killed(_job) -> None:
            if route == "files.delete":
                lab.pass_time()
            lab.emulator.advance(20)
            assert fault.reached.wait(20)
            lab.kill()
            fault.release()
            lab.restart()

        assert ends(lab, witness, then=killed)[0] is COMPLETED
        assert len(lab.emulator.predictions) == 1
