"""Loading: from `use:` and `with:` of the YAML to a stage.

The code that checks a graph and the worker that runs a stage both use it, so both see the same object. It
imports the user's code and calls only the constructor.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from stages.declared import declared
from stages.errors import BadOption, SpecMismatch, StageError, text_of
from stages.function import EXAMPLE, FunctionStage
from stages.hints import did_you_mean
from stages.spec import TensorSpec
from stages.stage import Stage

__all__ = ["load_stage"]


def load_stage(use: str, options: Mapping[str, Any], base_dir: Path) -> Stage:
    """Import, construct and check one stage.

    A constructor with a parameter `base_dir` gets the config's folder, for options that are
    relative paths.

    Args:
        use: `module:Class` (anything importable), or `./file.py:Class` relative to `base_dir`; a function
            in place of the class becomes a FunctionStage.
        options: the arguments of the constructor.
        base_dir: the config's folder.

    Raises:
        BadOption: there is no such module, file or name; an option is unknown or missing; or the
            constructor failed, in which case its exception is the cause.
        SpecMismatch: the specs of the object contradict themselves.
        ModelError: the constructor needs a model that is missing.
    """
    made = _find(use, base_dir)
    if inspect.isfunction(made):
        _refuse_other_types(use, _parameters(made), options)
        stage = _construct(use, FunctionStage, {"function": made, **options})
    elif inspect.isclass(made):
        if "base_dir" in _parameters(made):
            options = {"base_dir": base_dir, **options}
        stage = _construct(use, made, options)
    else:
        raise BadOption(f"{use}: expected a class or a function, found {type(made).__name__} {_shown(made, 80)}")
    return _checked(use, stage)


def _find(use: str, base_dir: Path) -> Any:
    where, colon, name = use.rpartition(":")
    if not colon or not where or not name:
        raise BadOption(f"{use!r}: expected module:Class, or ./file.py:Class relative to the config")
    module = _import_file(use, base_dir / where) if where.endswith(".py") else _import_module(use, where)
    try:
        return getattr(module, name)
    except AttributeError:
        own = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        raise BadOption(f"{use}: {where} has no {name!r}{_hint(name, own)}") from None


def _import_file(use: str, path: Path) -> ModuleType:
    beside, path = path.parent.resolve(), path.resolve()
    if not path.is_file():
        there = [p.name for p in path.parent.glob("*.py")]
        raise BadOption(f"{use}: there is no file {path}{_hint(path.name, there)}")
    # One name for one path, so that two stages out of one file share the module.
    name = f"{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
    if (known := sys.modules.get(name)) is not None:
        return known
    # Modules beside it can be imported and hide no others: they come last. If it is a link, those beside the link too.
    sys.path.extend([folder for folder in map(str, (beside, path.parent)) if folder not in sys.path])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # for a .py file there always is one,
    assert spec.loader is not None  # and it has a loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise BadOption(f"{use}: importing {path} failed: {type(error).__name__}: {text_of(error)}") from error
    return module


def _import_module(use: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise BadOption(f"{use}: importing {name} needs {error.name!r}, which is not installed") from error
        raise BadOption(
            f"{use}: there is no module {error.name!r}{_hint(name, _stock_modules())}; "
            "a file of your own is written ./file.py:Class"
        ) from None
    except Exception as error:
        raise BadOption(f"{use}: importing {name} failed: {type(error).__name__}: {text_of(error)}") from error


def _stock_modules() -> list[str]:
    return [f"stages.{path.stem}" for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__"]


def _parameters(made: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(made).parameters


def _construct(use: str, made: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    parameters = _parameters(made)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for option in options:
            if option not in parameters:
                known = [name for name in parameters if name not in ("base_dir", "function")]
                raise BadOption(f"{use}: unknown option {option!r}{_hint(option, known)}")
    for name, parameter in parameters.items():
        variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if parameter.default is parameter.empty and not variadic and name not in options:
            raise BadOption(f"{use}: option {name!r} is missing; give it under with:{_example(made, name)}")
    _refuse_other_types(use, parameters, options)
    try:
        return made(**options)
    except StageError as error:
        # A class of the user's own below one of ours may take other arguments, or say other things.
        kind = next(kind for kind in type(error).__mro__ if kind.__module__.partition(".")[0] == "stages")
        raise kind(f"{use}: {text_of(error)}") from error
    except Exception as error:
        raise BadOption(f"{use}: constructing it failed: {type(error).__name__}: {text_of(error)}") from error


def _example(made: Callable[..., Any], option: str) -> str:
    """The end of a message about a missing option: what it is, where it is the specs of a function."""
    if made is not FunctionStage:
        return ""
    return f" the {option} of a function are a list of tensor specs, such as {option}: {EXAMPLE}"


def _refuse_other_types(
    use: str, parameters: Mapping[str, inspect.Parameter], options: Mapping[str, Any]
) -> None:
    for name, parameter in parameters.items():
        if name in options and (why := _unlike(parameter, options[name])) is not None:
            raise BadOption(f"{use}: option {name!r}: {why}")


def _unlike(parameter: inspect.Parameter, value: object) -> str | None:
    """Why a value is not of the plain type that its parameter declares, or None: "no" would count as true."""
    declared = getattr(parameter.annotation, "__name__", parameter.annotation)
    if declared == "bool" and not isinstance(value, bool):
        return f"expected true or false, found {value!r}"
    if declared == "int" and (isinstance(value, bool) or not isinstance(value, int)):
        return f"expected a whole number, found {value!r}"
    if declared == "float" and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return f"expected a number, found {value!r}"
    return None


#: The methods of a stage, and their arguments.
_HOOKS = {"process": ("batch",), "setup": ("context",), "teardown": (), "attach_memory": ("buffers",)}


def _refusal(hook: Callable[..., Any], arguments: int) -> str | None:
    """The signature of a method if it does not take so many arguments; None if it does, or is unknown."""
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):
        return None  # written in C
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return str(signature)
    return None


def _checked(use: str, stage: Any) -> Stage:
    if not callable(getattr(stage, "process", None)):
        raise BadOption(f"{use}: it has no method process(batch), so it is not a stage")
    for name, arguments in _HOOKS.items():
        hook = getattr(stage, name, None)
        if callable(hook) and (why := _refusal(hook, len(arguments))) is not None:
            called = f"{name}({', '.join(arguments)})"
            raise BadOption(f"{use}: {name}{why} cannot be called as {called}, which is what the runtime does")
    for side in ("inputs", "outputs"):
        specs = getattr(stage, side, None)
        if not isinstance(specs, (tuple, list)) or not all(isinstance(spec, TensorSpec) for spec in specs):
            raise SpecMismatch(f"{use}: {side} must be a tuple of TensorSpec, found {_shown(specs, 200)}")
        names = [spec.name for spec in specs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SpecMismatch(f"{use}: {side} name {twice[0]!r} twice")
    _check_aliases(use, stage)
    _check_pad(use, stage)
    checked: Stage = stage
    return checked


def _shown(value: object, most: int) -> str:
    """Up to `most` characters of what a value of a user's own class says of itself."""
    try:
        return f"{value!r:.{most}}"
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


def _check_aliases(use: str, stage: Stage) -> None:
    """An output that is an alias is of the same kind as its input.

    Raises:
        SpecMismatch: one is not, or names no input.
    """
    inputs = {spec.name: spec for spec in stage.inputs}
    for spec in stage.outputs:
        if spec.alias_of is None:
            continue
        source = inputs.get(spec.alias_of)
        if source is None:
            raise SpecMismatch(
                f"{use}: output {spec.name!r} is an alias of {spec.alias_of!r}, which is not an input"
                f"{_hint(spec.alias_of, inputs)}"
            )
        if (source.dtype, source.shape, dict(source.max)) != (spec.dtype, spec.shape, dict(spec.max)):
            raise SpecMismatch(f"{use}: output {spec} is an alias of {source}; expected the same dtype, shape and max")


def _check_pad(use: str, stage: Stage) -> None:
    """`pad` gives multiples to free dimensions.

    Raises:
        SpecMismatch: it names something else, or gives another thing.
    """
    free = sorted({name for spec in stage.inputs for name in spec.max})
    for name, multiple in declared(stage).pad.items():
        if name not in free or type(multiple) is not int or multiple < 1:
            raise SpecMismatch(
                f"{use}: pad {name}: {multiple!r}; expected a free dimension of an input ({', '.join(free) or 'none'}) "
                f"and a multiple of at least 1"
            )


def _hint(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known, "known:", most=20)
