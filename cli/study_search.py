"""Search for hyperparameters with Optuna (the extra [search]): proposes the next rows of a study."""

import re
from collections.abc import Mapping, Sequence

from convzoo.cli.study_rows import split_values
from convzoo.errors import ConfigError

_DISTRIBUTION = re.compile(r"(float|int|choice)\((.+)\)")


def parse_space(texts: Sequence[str]) -> dict:
    """Returns an Optuna distribution for each field.

    Args:
        texts: "config.FIELD=float(LOW, HIGH)", "config.FIELD=float(LOW, HIGH, log)", the same with "int", or
            "config.FIELD=choice(VALUE, VALUE, ...)". Both bounds are included.

    Raises:
        ConfigError: A text has another format, or Optuna is not installed.

    Example:
        >>> parse_space(["config.optimizer.learning_rate=float(0.01, 1.0, log)"])
        {'config.optimizer.learning_rate': FloatDistribution(high=1.0, log=True, low=0.01, step=None)}
    """
    distributions = _optuna().distributions
    space = {}
    for text in texts:
        field, _, value = text.strip().removeprefix("--").partition("=")
        match = _DISTRIBUTION.fullmatch(value.strip())
        try:
            arguments = split_values(match[2]) if match else []
            if not re.fullmatch(r"config\.[\w.]+", field) or field in space:
                raise ValueError
            if match[1] == "choice":
                space[field] = distributions.CategoricalDistribution(arguments)
                continue
            is_log = arguments[2:] == ["log"]
            if len(arguments) != 2 + is_log:
                raise ValueError
            number = {"float": float, "int": int}[match[1]]
            kind = {"float": distributions.FloatDistribution, "int": distributions.IntDistribution}[match[1]]
            space[field] = kind(*map(number, arguments[:2]), log=is_log)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"cannot read --search={text!r}{f' ({error})' if str(error) and match else ''}; write each field "
                "once, as config.FIELD=float(LOW, HIGH), float(LOW, HIGH, log), int(LOW, HIGH) or choice(VALUE, VALUE)"
            ) from error
    return space


def propose(space: dict, trials: Sequence[tuple[Mapping[str, object], float | None]], count: int) -> list[dict]:
    """Returns the fields of the next trials, found by Optuna's tree-structured Parzen estimator.

    The first 10 are random. The same trials give the same proposals, so that a search resumes exactly.

    Args:
        space: See `parse_space`.
        trials: Fields and result of each earlier trial, the higher the better; None if it failed.
        count: Number of trials that run at the same time.

    Example:
        >>> space = parse_space(["config.epochs=int(1, 3)"])
        >>> propose(space, [], 1)[0]["config.epochs"] in (1, 2, 3)
        True
    """
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=len(trials), constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for parameters, value in trials:
        state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
        try:
            study.add_trial(
                optuna.trial.create_trial(params=dict(parameters), distributions=space, value=value, state=state)
            )
        except ValueError as error:
            raise ConfigError(f"an earlier trial is outside --search ({error}); choose another --workdir") from error
    proposals = [study.ask(space).params for _ in range(count)]
    return [{field: _rounded(value, space[field]) for field, value in proposal.items()} for proposal in proposals]


def _rounded(value, distribution):
    """Returns a value with four digits, which is easier to read and to repeat."""
    if not isinstance(value, float):
        return value
    return min(max(float(f"{value:.4g}"), distribution.low), distribution.high)


def _optuna():
    try:
        import optuna  # optional
    except ImportError as error:
        raise ConfigError("--search requires Optuna; install it with pip install -e '.[search]'") from error
    return optuna
