"""Parameters as Spark's ``pyspark.ml.param`` has them: named, documented, checked when set."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from lshjoin.base.checks import short

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


def to_string(value: object) -> str:
    """A str."""
    if not isinstance(value, str):
        raise TypeError(f"Could not convert {type(value)} to string type")
    return str(value)


@dataclasses.dataclass(frozen=True)
class Param(Generic[T]):
    """A parameter of one estimator or model; equal when owner and name are."""

    parent: str
    name: str
    doc: str = dataclasses.field(compare=False)
    typeConverter: Callable[[object], T] = dataclasses.field(compare=False, repr=False)
    isValid: Callable[[T], bool] = dataclasses.field(compare=False, repr=False)

    def __str__(self) -> str:
        """The owner's uid and the name."""
        return f"{self.parent}__{self.name}"


# Functions with names of their own, not lambdas: parameters are pickled with those that own them.


def any_value(value: object) -> bool:
    """Whatever was converted."""
    return True


def whole_positive(value: int) -> bool:
    """From 1 to the largest int of Spark's."""
    return 0 < value < 2**31


def finite_positive(value: float) -> bool:
    """Above 0, and not infinite or NaN."""
    return 0 < value < float("inf")


def signed_64_bits(value: int) -> bool:
    """What Spark has for a long."""
    return -(2**63) <= value < 2**63


def declare(
    name: str,
    doc: str,
    convert: Callable[[object], T],
    valid: Callable[[T], bool] = any_value,
) -> Param[T]:
    """A parameter in a class body; every instance gets a copy of its own."""
    return Param("undefined", name, doc, convert, valid)


ParamMap = dict[Param[Any], Any]


class Params:
    """What has parameters: defaults, and the values a user set over them."""

    uid: str

    def __init__(self, uid: str | None = None) -> None:
        self.uid = uid or f"{type(self).__name__}_{uuid.uuid4().hex[-12:]}"
        self._paramMap: ParamMap = {}
        self._defaultParamMap: ParamMap = {}
        for name in dir(type(self)):
            # `params` is a property: looked up on the class it is no Param.
            param = getattr(type(self), name)
            if isinstance(param, Param):
                setattr(self, name, dataclasses.replace(param, parent=self.uid))

    def __repr__(self) -> str:
        """The uid, as in Spark."""
        return self.uid

    @property
    def params(self) -> list[Param[Any]]:
        """All parameters by name."""
        return sorted(
            (value for value in vars(self).values() if isinstance(value, Param)),
            key=lambda param: param.name,
        )

    def hasParam(self, paramName: str) -> bool:
        """Whether there is a parameter of this name."""
        if not isinstance(paramName, str):
            raise TypeError("hasParam(): paramName must be a string")
        return isinstance(getattr(self, paramName, None), Param)

    def getParam(self, paramName: str) -> Param[Any]:
        """The parameter of this name. ValueError when there is none."""
        if not self.hasParam(paramName):
            raise ValueError(f"Cannot find param with name {paramName}.")
        param: Param[Any] = getattr(self, paramName)
        return param

    def isSet(self, param: str | Param[Any]) -> bool:
        """Whether the user set it."""
        return self._resolve(param) in self._paramMap

    def hasDefault(self, param: str | Param[Any]) -> bool:
        """Whether it has a default."""
        return self._resolve(param) in self._defaultParamMap

    def isDefined(self, param: str | Param[Any]) -> bool:
        """Whether it has a value, set or default."""
        return self.isSet(param) or self.hasDefault(param)

    @overload
    def getOrDefault(self, param: str) -> Any: ...
    @overload
    def getOrDefault(self, param: Param[T]) -> T: ...
    def getOrDefault(self, param: str | Param[Any]) -> Any:
        """The value set by the user, else the default. KeyError when there is neither."""
        param = self._resolve(param)
        values = self.extractParamMap()
        if param not in values:
            raise KeyError(f"Failed to find a default value for {param.name}")
        return values[param]

    def extractParamMap(self, extra: ParamMap | None = None) -> ParamMap:
        """Defaults, overridden by what the user set, overridden by ``extra``."""
        return {**self._defaultParamMap, **self._paramMap, **(extra or {})}

    def explainParam(self, param: str | Param[Any]) -> str:
        """One line: name, meaning, default and current value."""
        param = self._resolve(param)
        values = [
            f"{label}: {values[param]}"
            for label, values in (("default", self._defaultParamMap), ("current", self._paramMap))
            if param in values
        ]
        return f"{param.name}: {param.doc} ({', '.join(values) or 'undefined'})"

    def explainParams(self) -> str:
        """A line for each parameter."""
        return "\n".join(self.explainParam(param) for param in self.params)

    def set(self, param: Param[T], value: T) -> None:
        """Sets a parameter. TypeError or ValueError when the value will not do."""
        self._paramMap[self._resolve(param)] = self._checked(param, value)

    def clear(self, param: Param[Any]) -> None:
        """Takes back what the user set; the default holds again."""
        self._paramMap.pop(self._resolve(param), None)

    def copy(self, extra: ParamMap | None = None) -> Self:
        """The same, uid included, with ``extra`` set as well."""
        that = type(self).__new__(type(self))
        vars(that).update(vars(self))
        that._paramMap = dict(self._paramMap)
        that._defaultParamMap = dict(self._defaultParamMap)
        for param, value in (extra or {}).items():
            if not isinstance(param, Param):
                raise TypeError(
                    f"Expecting a valid instance of Param, but received: {param!r}; "
                    "the keys of a param map are attributes such as lsh.numHashTables"
                )
            that.set(param, value)
        return that

    def __copy__(self) -> Self:
        return self.copy()

    def _set(self, **values: object) -> Self:
        """Sets by name; None leaves a parameter as it is."""
        for name, value in values.items():
            if value is not None:
                self.set(self.getParam(name), value)
        return self

    def _setDefault(self, **values: object) -> None:
        for name, value in values.items():
            param = self.getParam(name)
            self._defaultParamMap[param] = self._checked(param, value)

    def _checked(self, param: Param[T], value: object) -> T:
        try:
            converted = param.typeConverter(value)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f'Invalid param value given for param "{param.name}". {error}'
            ) from None
        if not param.isValid(converted):
            raise ValueError(
                f"{self.uid} parameter {param.name} given invalid value {short(converted)}."
            )
        return converted

    def _resolve(self, param: str | Param[Any]) -> Param[Any]:
        if isinstance(param, str):
            return self.getParam(param)
        if not isinstance(param, Param):
            raise TypeError(f"Cannot resolve {param!r} as a param.")
        if param.parent != self.uid or not self.hasParam(param.name):
            raise ValueError(f"Param {param!r} does not belong to {self!r}.")
        return param
