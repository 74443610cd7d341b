"""The checks of the contract catch learners that are broken on purpose, each by the check that should."""

import time
from functools import partial

import numpy as np
import pytest

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners.checks import check_learner
from everlearn.learners.linear import Linear
from everlearn.learners.majority import Majority
from everlearn.learners.ridge import Ridge
from everlearn.learners.states import held, stored
from everlearn.learners.window import Window

# -- what is learned -------------------------------------------------------------------------------------


class BatchIsOneRow(Majority):
    def learn(self, X, y):
        super().learn(X[-1:], y[-1:])


class LosesTheLastRow(Linear):
    def learn(self, X, y, weights=None):
        super().learn(X, y, weights)
        super().learn(X[:-1], list(y)[:-1])


class ScalesByTheBatch(Ridge):
    def learn(self, X, y, weights=None):
        super().learn(X / (1.0 + np.nanmean(np.abs(X), initial=0.0) if len(X) else X), y, weights)


class LearnsAThousandRowsAtMost(Majority):
    def learn(self, X, y):
        super().learn(X[:1000], y[:1000])


class StartsAfresh(Linear):
    def learn(self, X, y, weights=None):
        self.__dict__.update(self.fresh().__dict__)
        super().learn(X, y, weights)


class LearnsTheLabelBefore(Linear):
    def learn(self, X, y, weights=None):
        rows, values = np.asarray(X, dtype=float), list(y)
        super().learn(rows[:0], [])
        for row, value in zip(rows, values, strict=True):
            super().learn(row[None], [getattr(self, "before", value)])
            self.before = value


class ForgetsHalf(Ridge):
    def forget(self, X, y, when=None, weights=None):
        super().forget(X[::2], list(y)[::2])


class ForgetsUpToTheFault(Ridge):
    def forget(self, X, y, when=None, weights=None):
        for row, value in zip(np.asarray(X), list(y), strict=True):
            super().forget(row[None], [value])


class IgnoresAColumn(Linear):
    def predict(self, X):
        return super().predict(np.asarray(X) * [1.0, 0.0, 1.0, 1.0])


class IgnoresCategories(Linear):
    def __init__(self, *, categorical=(), **parameters):
        super().__init__(**parameters)


class IgnoresTheRows(Linear):
    def predict(self, X):
        return super().predict(np.zeros(np.shape(X)))


class KnowsTwoClasses(Linear):
    def predict(self, X):
        answer = super().predict(X)
        if answer.shape[1] > 2:
            answer[:, 2:] = 0.0
            answer /= answer.sum(axis=1, keepdims=True)
        return answer


class StopsAfterAThousandRows(Linear):
    def learn(self, X, y, weights=None):
        if self._width is None or self._counts[1] < 1000:
            super().learn(X, y, weights)


class GivesNewClassesNothing(Linear):
    def predict(self, X):
        answer = super().predict(X)
        if self._width is not None and self._counts[1] > 1000:
            answer[:, 2:] = 0.0
        return answer / np.maximum(answer.sum(axis=1, keepdims=True), 1e-300)


# -- what is answered ------------------------------------------------------------------------------------


class PredictLearns(Majority):
    def predict(self, X):
        if self._rows:
            self._counts[0] += len(X)
            self._rows += len(X)
        return super().predict(X)


class TiresOfQuestions(Linear):
    asked = 0

    def predict(self, X):
        self.asked += self._width is not None
        return super().predict(X)

    def learn(self, X, y, weights=None):
        super().learn(X, y, weights)
        if self.asked and self._width:
            self._weights *= 1.0 - 1e-9


class Unnormalised(Majority):
    def predict(self, X):
        return super().predict(X) * 0.9


class Negative(Linear):
    def predict(self, X):
        return super().predict(X) * 1.2 - 0.2 / max(len(self.classes), 1)


class SinglePrecision(Linear):
    def predict(self, X):
        return super().predict(X).astype(np.float32)


class ColumnVector(Ridge):
    def predict(self, X):
        return super().predict(X)[:, None]


class CentresByTheBatch(Ridge):
    def predict(self, X):
        rows = np.asarray(X, dtype=float)
        return super().predict(rows - (np.nanmean(rows, axis=0) if len(rows) else 0.0))


class AddsThePlace(Linear):
    def predict(self, X):
        answer = super().predict(X)
        return answer + 0.01 * np.arange(len(answer))


class AnswersAThousandRowsAtMost(Majority):
    def predict(self, X):
        answer = super().predict(X)
        answer[1000:] = answer[:1].mean()
        return answer


class TakesThePageForTheText(Linear):
    """Remembers the answer to an array by where it lies."""

    def predict(self, X):
        key = (id(X), np.shape(X), self._counts.tobytes() if self._width else b"")
        if getattr(self, "key", None) != key:
            self.key, self.said = key, super().predict(X)
        return self.said.copy()


class TakesTheFirstCategoryForNone(Ridge):
    def predict(self, X):
        rows = np.array(X, dtype=float)
        if rows.shape[-1] == 4:
            rows[rows[:, 3] == 0.0, 3] = np.nan
        return super().predict(rows)


class BackToFront(Linear):
    def predict(self, X):
        return super().predict(X)[:, ::-1].copy()


class NaNBecomesNaN(Linear):
    def predict(self, X):
        answer = super().predict(X)
        answer[np.isnan(np.asarray(X)).any(axis=1)] = np.nan
        return answer


class InfinityBecomesNaN(Ridge):
    def predict(self, X):
        answer = super().predict(X)
        answer[np.isinf(np.asarray(X)).any(axis=1)] = np.nan
        return answer


class DividesByTheSpread(Linear):
    def predict(self, X):
        answer = super().predict(X)
        spread = self._scale[2, 0] if self._width else 1.0
        return answer * (spread / np.float64(spread) if spread else np.nan)


class TripsOverNewCategories(Ridge):
    def predict(self, X):
        if len(X) and np.shape(X)[1] == 4 and np.nanmax(np.asarray(X)[:, 3], initial=0.0) > 50.0:
            raise IndexError("category 100 of 5")
        return super().predict(X)


class NeedsNumbers(Linear):
    def learn(self, X, y, weights=None):
        super().learn(X, y, weights)
        if self._width is not None:
            np.mean(np.asarray(X)[:, next(c for c in range(9) if c not in self.categorical)])


class TripsOverOneRow(Linear):
    def learn(self, X, y, weights=None):
        if len(X) == 1:
            X, y = np.squeeze(X), y
        super().learn(X, y, weights)


class GuessesAtFirst(Majority):
    def predict(self, X):
        return super().predict(X) if self._rows else np.zeros(len(X))


class NeverSure(Linear):
    def predict(self, X):
        answer = super().predict(X)
        return answer * 0.9 + 0.1 / answer.shape[1] if answer.shape[1] > 1 else answer * 0.9


class InUnitsOfItsOwn(Linear):
    def predict(self, X):
        answer = super().predict(X)
        return (
            answer if not self._width else (answer - self._scale[1, -1]) / np.sqrt(self._scale[2, -1] or 1.0)
        )


class NoNegatives(Linear):
    def predict(self, X):
        return np.maximum(super().predict(X), 0.0)


class WholeNumbers(Ridge):
    def predict(self, X):
        return np.round(super().predict(X), 3)


class ShrinksToNothing(Ridge):
    def predict(self, X):
        return super().predict(X) * 0.9


class HasClassesOfValues(Majority):
    @property
    def classes(self):
        return [self._mean] if self._rows and self.task == "regression" else super().classes


class MakesTargetsNumbers(Majority):
    def learn(self, X, y):
        if self.task == "regression":
            y = np.nan_to_num([float(v) if isinstance(v, int | float | np.number) else 0.0 for v in y])
        super().learn(X, y)


# -- classes ---------------------------------------------------------------------------------------------


class SortsItsClasses(Linear):
    @property
    def classes(self):
        return sorted(super().classes, key=str)


class MakesLabelsText(Majority):
    @property
    def classes(self):
        return [str(value) for value in super().classes]


class MakesBooleansNumbers(Majority):
    def learn(self, X, y):
        super().learn(X, [int(v) if isinstance(v, bool | np.bool_) else v for v in y])


class TakesZeroForMissing(Majority):
    def learn(self, X, y):
        super().learn(X, [v or "none" for v in list(y)])


class LosesOldClasses(Majority):
    def learn(self, X, y):
        super().learn(X, y)
        if self._rows > 450:
            self._classes.restore(self._classes.values[-1:])
            self._counts = self._counts[-1:]
            self._rows = sum(self._counts)


class TakesClassesBeforeItRefuses(Linear):
    def learn(self, X, y, weights=None):
        for value in y if self.task == "classification" else ():
            if value is not None and value == value and len(X) == len(y):
                self._classes.learn([value])
        super().learn(X, y, weights)


class GivesItsOwnListOfClasses(Majority):
    @property
    def classes(self):
        return self._classes.values


# -- state -----------------------------------------------------------------------------------------------


class ForgetsTheSlots(Linear):
    def state(self):
        state = super().state()
        if "slots" in state:
            state["slots"] = np.full_like(state["slots"], -1)
        return state


class StateSharesArrays(Linear):
    def state(self):
        return super().state() | ({"weights": self._weights} if self._width else {})


class RestoreSharesArrays(Linear):
    def restore(self, state):
        super().restore(state)
        if self._width:
            self._weights = state["weights"]


class SharesItsAnswers(Majority):
    def predict(self, X):
        answer = super().predict(X)
        if getattr(self, "buffer", np.empty(0)).shape != answer.shape:
            self.buffer = answer
        self.buffer[...] = answer
        return self.buffer


class AnswersTwiceTheSame(Linear):
    """Keeps its answers and gives the very same array to the same question."""

    def predict(self, X):
        if not hasattr(self, "kept"):
            self.kept = {}
        key = (np.asarray(X).tobytes(), self._counts.tobytes() if self._width else b"", len(self.classes))
        return self.kept.setdefault(key, super().predict(X))


class RestoreAdds(Majority):
    def restore(self, state):
        before = self._rows
        super().restore(state)
        self._rows += before


class LosesItsGenerator(Majority):
    """Learns nine rows of ten, by a generator that is not part of the state."""

    def __init__(self, *, seed=0, **parameters):
        super().__init__(seed=seed, **parameters)
        self.generator = np.random.default_rng(seed)

    def learn(self, X, y):
        super().learn(X[:0], y[:0])
        for i in range(len(X)):
            if self.generator.random() < 0.9 or not self._rows:
                super().learn(X[i : i + 1], y[i : i + 1])


class LosesACounter(Linear):
    learned = 0

    def learn(self, X, y, weights=None):
        for i in range(len(X)):
            super().learn(X[i : i + 1], y[i : i + 1], None if weights is None else weights[i : i + 1])
            self.learned += 1
            self._weights *= 1.0 - 0.1 / self.learned


class ForgivesDamage(Majority):
    def restore(self, state):
        super().restore({**self.state(), **state} if state else self.state())


class TripsOverDamage(Majority):
    def restore(self, state):
        self._rows = state["rows"]
        super().restore(state)


class StateOfNoFormat(Majority):
    def state(self):
        return super().state() | {"seen": (1, 2)}


class HasSecretState(Linear):
    def state(self):
        return super().state() | ({"worst": float("nan")} if self._width else {})


class SharesItsCounts(Majority):
    counts = []

    def learn(self, X, y):
        self._counts = self.counts
        super().learn(X, y)


class KeepsEveryRow(Majority):
    def __init__(self, **parameters):
        super().__init__(**parameters)
        self.history = []

    def learn(self, X, y):
        super().learn(X, y)
        self.history += [float(np.nan_to_num(row, posinf=0, neginf=0).sum()) for row in X]

    def state(self):
        return super().state() | {"history": list(self.history)}

    def restore(self, state):
        super().restore(state)
        self.history = list(state["history"])


class KeepsEveryLabelInSecret(Linear):
    def learn(self, X, y, weights=None):
        super().learn(X, y, weights)
        self.labels = [*getattr(self, "labels", []), *y]


class CountsInSecret(Linear):
    """Keeps a small number for each row."""

    def learn(self, X, y, weights=None):
        super().learn(X, y, weights)
        self.counts = [*getattr(self, "counts", []), *([1] * len(X))]


class KeepsEveryLabelInItsClass(Linear):
    labels = []

    def learn(self, X, y, weights=None):
        super().learn(X, y, weights)
        self.labels.extend(y)


class KeepsEveryCategory(Ridge):
    def predict(self, X):
        self.codes = getattr(self, "codes", set()) | set(np.asarray(X)[:, -1].tolist())
        return super().predict(X)


class UnseededWindow(Window):
    def __init__(self, *, seed=0, **parameters):
        super().__init__(**parameters, estimator="extra_trees", size=200, seed=np.random.randint(1 << 30))


class DrawsFromTheGlobalGenerator(Majority):
    def learn(self, X, y):
        np.random.random()
        super().learn(X, y)


class SeedsTheGlobalGenerator(Linear):
    def __init__(self, **parameters):
        super().__init__(**parameters)
        np.random.seed(self.seed)


class SilencesNumpy(Linear):
    def learn(self, X, y, weights=None):
        np.seterr(all="ignore", under="raise")
        super().learn(X, y, weights)


class LooksAtTheClock(Majority):
    def learn(self, X, y):
        super().learn(X, y)
        self._mean += 1e-12 * (time.time() // 1e6)

    def predict(self, X):
        return super().predict(X)


class HashesLabels(Linear):
    def learn(self, X, y, weights=None):
        super().learn(X, y, weights)
        self.bins = [hash(value) % 64 for value in y]


# -- input -----------------------------------------------------------------------------------------------


class ScrubsItsInput(Linear):
    def learn(self, X, y, weights=None):
        if isinstance(X, np.ndarray) and X.flags.writeable:
            np.nan_to_num(X, copy=False)
        super().learn(X, y, weights)


class SortsTheLabels(Majority):
    def learn(self, X, y):
        super().learn(X, y)
        if isinstance(y, np.ndarray) and y.flags.writeable:
            y.sort()


class HoldsOnToX(Majority):
    def learn(self, X, y):
        super().learn(X, y)
        self.last = X

    def state(self):
        return super().state() | ({"last": self.last[-1].copy()} if self._rows else {})

    def restore(self, state):
        super().restore(state)
        self.last = np.array([state["last"]]) if self._rows else None


class LearnsFromWhatItHolds(Linear):
    """Learns the batch before once more, from the caller's own array."""

    def learn(self, X, y, weights=None):
        if hasattr(self, "last") and len(X):
            super().learn(*self.last)
        super().learn(X, y, weights)
        self.last = X[-1:], y[-1:]


class LearnsTheGoodHalf(Majority):
    def learn(self, X, y):
        for i in range(len(y)):
            super().learn(X[i : i + 1], y[i : i + 1])


class RegistersBadClasses(Linear):
    def learn(self, X, y, weights=None):
        self._classes.learn([v for v in y if isinstance(v, str) or (v is not None and v == v)])
        super().learn(X, y, weights)


class TakesAnyWidth(Linear):
    def predict(self, X):
        rows = np.atleast_2d(np.asarray(X, dtype=float))
        return super().predict(np.resize(rows, (len(rows), self._width or rows.shape[1])))


class DropsMissingLabels(Majority):
    def learn(self, X, y):
        known = [i for i, v in enumerate(y) if v is not None and np.all(v == v)]
        super().learn(np.asarray(X)[known], [y[i] for i in known])


class NeedsRowsInOrder(Linear):
    def learn(self, X, y, weights=None):
        rows = np.asarray(X, dtype=float)
        super().learn(np.frombuffer(rows.tobytes("A"), dtype=float).reshape(rows.shape), y, weights)


class LearnsEmptyBatches(Majority):
    def learn(self, X, y):
        super().learn(X, y)
        self._rows += not len(X) and self._rows > 0


class TripsOverEmptyBatches(Linear):
    def learn(self, X, y, weights=None):
        super().learn(X, y, weights)
        self.newest = y[-1]


class TakesNegativeWeights(Linear):
    def learn(self, X, y, weights=None):
        super().learn(X, y, None if weights is None else np.abs(weights))


class IgnoresWeights(Ridge):
    def learn(self, X, y, weights=None):
        self._take(X[:0], y[:0], None if weights is None else weights[:0])
        super().learn(X, y, None if weights is None else np.sign(self._take(X, y, weights)[2]))


class PeeksAhead(Ridge):
    def test_then_train(self, X, y, weights=None, *, delay=0):
        self.learn(X, y, weights)
        return self.predict(X)


class TakesLabelsAtOnce(Linear):
    def test_then_train(self, X, y, weights=None, *, delay=0):
        return super().test_then_train(X, y, weights, delay=max(delay - 1, 0))


class PrefersNothing(Majority):
    prefers = "sometimes"


C, R = "classification", "regression"
FAULTS = [
    (BatchIsOneRow, C, "learns a batch as its rows"),
    (LosesTheLastRow, C, "learns a batch as its rows"),
    (ScalesByTheBatch, R, "learns a batch as its rows"),
    (LearnsAThousandRowsAtMost, R, "learns a batch as its rows"),
    (StartsAfresh, R, "learns a batch as its rows"),
    (LearnsTheLabelBefore, C, "learns an easy problem"),
    (LearnsTheLabelBefore, R, "learns an easy problem"),
    (ForgetsHalf, C, "forgets rows exactly"),
    (ForgetsHalf, R, "forgets rows exactly"),
    (ForgetsUpToTheFault, C, "forgets nothing by mistake"),
    (IgnoresAColumn, C, "learns an easy problem"),
    (IgnoresAColumn, R, "learns an easy problem"),
    (IgnoresCategories, C, "learns an easy problem"),
    (IgnoresCategories, R, "learns an easy problem"),
    (IgnoresTheRows, C, "learns an easy problem"),
    (KnowsTwoClasses, C, "tells three classes apart"),
    (StopsAfterAThousandRows, C, "goes on learning"),
    (StopsAfterAThousandRows, R, "goes on learning"),
    (GivesNewClassesNothing, C, "goes on learning"),
    (PredictLearns, C, "predict changes nothing"),
    (TiresOfQuestions, R, "predict changes nothing"),
    (Unnormalised, C, "takes one class"),
    (Negative, C, "answers each row by itself"),
    (SinglePrecision, C, "answers each row by itself"),
    (SinglePrecision, R, "answers each row by itself"),
    (ColumnVector, R, "answers each row by itself"),
    (CentresByTheBatch, C, "answers each row by itself"),
    (AddsThePlace, R, "answers each row by itself"),
    (AnswersAThousandRowsAtMost, C, "answers each row by itself"),
    (TakesThePageForTheText, C, "gives away nothing of its own"),
    (TakesTheFirstCategoryForNone, C, "learns an easy problem"),
    (BackToFront, C, "probabilities follow the classes"),
    (NaNBecomesNaN, C, "takes missing values"),
    (NaNBecomesNaN, R, "takes missing values"),
    (InfinityBecomesNaN, C, "takes extreme values"),
    (InfinityBecomesNaN, R, "takes extreme values"),
    (DividesByTheSpread, C, "takes constant columns"),
    (TripsOverNewCategories, R, "takes categories it has not seen"),
    (NeedsNumbers, C, "takes columns of one kind"),
    (TripsOverOneRow, C, "takes one row"),
    (GuessesAtFirst, R, "knows nothing at first"),
    (NeverSure, C, "takes one class"),
    (InUnitsOfItsOwn, R, "takes targets of any scale"),
    (InUnitsOfItsOwn, R, "learns an easy problem"),
    (NoNegatives, R, "learns an easy problem"),
    (WholeNumbers, R, "takes targets of any scale"),
    (ShrinksToNothing, R, "takes constant targets"),
    (HasClassesOfValues, R, "has no classes"),
    (MakesTargetsNumbers, R, "refuses targets that are no numbers"),
    (SortsItsClasses, C, "classes in order of appearance"),
    (SortsItsClasses, C, "probabilities follow the classes"),
    (SortsItsClasses, C, "learns an easy problem"),
    (MakesLabelsText, C, "keeps the labels type"),
    (MakesBooleansNumbers, C, "keeps the labels type"),
    (TakesZeroForMissing, C, "keeps the labels type"),
    (LosesOldClasses, C, "classes in order of appearance"),
    (TakesClassesBeforeItRefuses, C, "refuses too many classes whole"),
    (GivesItsOwnListOfClasses, C, "classes in order of appearance"),
    (ForgetsTheSlots, C, "state survives storage"),
    (ForgetsTheSlots, R, "learns on after storage"),
    (StateSharesArrays, C, "gives away nothing of its own"),
    (RestoreSharesArrays, R, "gives away nothing of its own"),
    (SharesItsAnswers, C, "gives away nothing of its own"),
    (AnswersTwiceTheSame, R, "gives away nothing of its own"),
    (RestoreAdds, C, "state survives storage"),
    (LosesItsGenerator, R, "learns on after storage"),
    (LosesACounter, C, "learns on after storage"),
    (ForgivesDamage, C, "refuses a damaged state"),
    (TripsOverDamage, R, "refuses a damaged state"),
    (StateOfNoFormat, C, "state survives storage"),
    (HasSecretState, R, "state survives storage"),
    (SharesItsCounts, C, "shares nothing with another"),
    (KeepsEveryRow, C, "memory is bounded"),
    (KeepsEveryLabelInSecret, C, "memory is bounded"),
    (KeepsEveryLabelInSecret, R, "memory is bounded"),
    (CountsInSecret, C, "memory is bounded"),
    (KeepsEveryLabelInItsClass, R, "memory is bounded"),
    (KeepsEveryCategory, R, "memory is bounded"),
    (UnseededWindow, C, "same seed same learner"),
    (DrawsFromTheGlobalGenerator, C, "same seed same learner"),
    (SeedsTheGlobalGenerator, R, "same seed same learner"),
    (SilencesNumpy, C, "same seed same learner"),
    (LooksAtTheClock, R, "same seed same learner"),
    (HashesLabels, C, "is the same in every process"),
    (ScrubsItsInput, C, "keeps nothing of others"),
    (SortsTheLabels, R, "keeps nothing of others"),
    (HoldsOnToX, C, "keeps nothing of others"),
    (LearnsFromWhatItHolds, R, "keeps nothing of others"),
    (LearnsTheGoodHalf, C, "refuses wrong input whole"),
    (RegistersBadClasses, C, "refuses wrong input whole"),
    (TakesAnyWidth, C, "refuses wrong input whole"),
    (DropsMissingLabels, R, "refuses wrong input whole"),
    (NeedsRowsInOrder, R, "takes arrays of any layout"),
    (LearnsEmptyBatches, C, "learns nothing from an empty batch"),
    (TripsOverEmptyBatches, R, "learns nothing from an empty batch"),
    (TakesNegativeWeights, C, "takes weights as it should"),
    (IgnoresWeights, R, "takes weights as it should"),
    (PeeksAhead, C, "tested as if row by row"),
    (PeeksAhead, R, "tested as if row by row"),
    (TakesLabelsAtOnce, C, "tested as if row by row"),
    (PrefersNothing, C, "says what it is"),
]


@pytest.mark.parametrize(
    ("broken", "task", "name"), FAULTS, ids=[f"{broken.__name__}-{name}" for broken, _, name in FAULTS]
)
def test_a_planted_fault_is_caught(broken, task, name):
    checks = dict(check_learner(broken, tasks=[task]))
    errors = np.geterr()
    try:
        with pytest.raises(AssertionError, match=r"\w+ \w+"):
            checks[f"{task}: {name}"]()
    finally:
        np.seterr(**errors)


def test_every_check_catches_something():
    names = {name.partition(": ")[2] for name, _ in check_learner(Majority)}
    assert names == {name for _, _, name in FAULTS}


class Constant(Majority):
    name = "constant"


@pytest.mark.parametrize(
    ("parameters", "fails"), [({}, True), ({"baseline": True}, False), ({"baseline": False}, True)]
)
def test_only_a_baseline_need_not_learn(parameters, fails):
    checks = dict(check_learner(Constant, **parameters))
    for task in (C, R):
        if fails:
            with pytest.raises(AssertionError, match="does not learn it"):
                checks[f"{task}: learns an easy problem"]()
        else:
            checks[f"{task}: learns an easy problem"]()
    Says = type("Says", (Constant,), {"baseline": True})
    dict(check_learner(Says))[f"{C}: learns an easy problem"]()


def test_a_learner_that_breaks_down_fails_its_check_with_what_went_wrong():
    for error in (ZeroDivisionError("by nothing"), IntegrityError("not whole"), InvalidError("X: bad")):

        class Breaks(Majority):
            def learn(self, X, y, error=error):
                raise error

        with pytest.raises(AssertionError, match=f"takes one class: {type(error).__name__}: {error}"):
            dict(check_learner(Breaks))["classification: takes one class"]()


def test_what_remembers_may_learn_otherwise_for_having_been_asked():
    class Remembers(TiresOfQuestions):
        remembers = True

    dict(check_learner(Remembers))["regression: predict changes nothing"]()


def test_what_is_held_counts_all_that_hangs_on_an_object():
    class Slotted:
        __slots__ = ("kept",)

    inner, outer = Slotted(), Majority()
    inner.kept = np.zeros(1000)
    empty = held(outer)
    outer.things = {"a": [inner, inner], "view": inner.kept[:10], "self": outer}
    assert 8000 < held(outer) - empty < 9500
    assert held(partial(int)) < 10_000


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ({"a": np.float64(1.0)}, "state.a is a float64"),
        ({"a": (1, 2)}, "state.a is a tuple"),
        ({1: "a"}, "no text"),
        ({"a": [float("nan")]}, r"state.a\[0\] is nan"),
        ({"model": b"x"}, "file format"),
        ({"a": np.array(["x"])}, "array of <U1"),
        ({"a": object()}, "is a object"),
    ],
)
def test_storage_refuses_what_no_artifact_can_hold(state, what):
    with pytest.raises(AssertionError, match=what):
        stored(state)
