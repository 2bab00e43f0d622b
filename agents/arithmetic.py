"""Safe arithmetic: what people write for a calculator, worked out in decimal numbers.

Three fences stand around it: only numbers, a few names and operators are let in; simpleeval walks the syntax tree and
knows no more than they need; and a decimal number has at most 50 digits and 1000 places, however it came about.
"""

import ast
import re
from collections.abc import Callable
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    Underflow,
)

from simpleeval import InvalidExpression, SimpleEval

MAX_CHARACTERS = 300
_MAX_DEPTH = 30
_MAX_POWERS = 10
_DIGITS = 50
_PLACES = 999
_EXACT_DIGITS = 20
_SHOWN_DIGITS = 15
_CONSTANTS = {
    "pi": Decimal("3.1415926535897932384626433832795028841971693993751"),
    "e": Decimal("2.7182818284590452353602874713526624977572470937000"),
}
_FUNCTIONS = ("abs", "ceil", "floor", "max", "min", "round", "sqrt")
_NAMES = frozenset({*_CONSTANTS, *_FUNCTIONS})

_AS_ASCII = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # the full-width forms of ASCII
_AS_ASCII |= dict.fromkeys(map(ord, "×✕✖·⋅∙"), "*") | dict.fromkeys(map(ord, "÷∕⁄"), "/")
_AS_ASCII |= dict.fromkeys(map(ord, "−–—"), "-") | {ord("²"): "^2", ord("³"): "^3"}

_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_TOKEN = re.compile(
    rf"(?P<number>{_NUMBER})(?![\w.])|(?P<name>[A-Za-z_]\w*)|(?P<sign>\*\*|//|[-+*/%^(),])|(?P<other>[\w.]+|\S)"
)
_THOUSANDS = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_TIMES = re.compile(r"(?<=[\d)])\s*[xX]\s*(?=[\d.(])")
_MANY_SIGNS = re.compile(r"(?:[-+]\s*){10}")
_HEXADECIMAL = re.compile(r"(?<![\w.])0[xX]")
_CALL = re.compile(r"[A-Za-z]\s*\(")
# a number is looked for only where one begins, else a long one is read once for each of its digits
_PERCENT = rf"(?<![\w.])(?P<number>{_NUMBER})\s*%"
_ANY_PERCENT = re.compile(_PERCENT)
_PERCENT_OF = re.compile(rf"{_PERCENT}\s*of\b", re.IGNORECASE)
_PERCENT_ALONE = re.compile(rf"{_PERCENT}(?!\s*[\w.(%+-])")
_PERCENT_MORE = re.compile(rf"[\w.)]\s*[-+]\s*{_PERCENT}(?!\s*(?:\*|/|of\b))", re.IGNORECASE)
_PERCENT_LEFT = re.compile(r"%(?!\s*[\w.(])|%\s*of\b", re.IGNORECASE)


class CannotCalculate(ValueError):
    """Say why an expression has no value, such that whoever wrote it can mend it."""


def calculate(expression: str) -> str:
    """Return the value of an expression as text: exact up to 20 digits, else rounded to 15; raise CannotCalculate."""
    if len(expression) > MAX_CHARACTERS:
        raise CannotCalculate(f"more than {MAX_CHARACTERS} characters: calculate in several steps")
    python = _as_python(expression)
    context = Context(
        prec=_DIGITS, Emin=-_PLACES, Emax=_PLACES, traps=[DivisionByZero, InvalidOperation, Overflow, Underflow]
    )
    try:
        value = _Decimals(python, context).evaluator().eval(python)
    except DivisionByZero:
        raise CannotCalculate("division by zero") from None
    except Overflow:
        raise CannotCalculate(f"too large: a number may have at most {_PLACES + 1} digits") from None
    except InvalidOperation:
        raise CannotCalculate("it has no value: 0/0, a root of a negative number, or digits beyond counting") from None
    except Underflow:
        raise CannotCalculate("too small: so close to 0 that no digits are left") from None
    except (RecursionError, MemoryError):
        raise CannotCalculate("too much at once: calculate in several steps") from None
    except (InvalidExpression, SyntaxError, TypeError, ValueError) as error:
        if isinstance(error, CannotCalculate):
            raise
        raise CannotCalculate("it can't be read: write it with numbers, + - * / ^ % and brackets") from None
    if not isinstance(value, Decimal):
        raise CannotCalculate(f"a function needs its brackets, as in {_FUNCTIONS[-1]}(2)")
    return _shown(value)


class _Decimals:
    """What simpleeval does with the parts of an expression: `source` is it, as `_as_python` has let it pass."""

    def __init__(self, source: str, context: Context) -> None:
        self._source = source
        self._context = context

    def evaluator(self) -> SimpleEval:
        """Return an evaluator that knows these numbers, operators and functions, and no other part of Python."""
        operators: dict[type[ast.operator | ast.unaryop], Callable[..., Decimal]] = {
            ast.Add: self._context.add,
            ast.Sub: self._context.subtract,
            ast.Mult: self._context.multiply,
            ast.Div: self._context.divide,
            ast.FloorDiv: self._floor_divide,
            ast.Mod: self._modulo,
            ast.Pow: self._context.power,
            ast.UAdd: self._context.plus,
            ast.USub: self._context.minus,
        }
        functions = {name: getattr(self, f"_{name}") for name in _FUNCTIONS}
        evaluator = SimpleEval(operators=operators, functions=functions, names=dict(_CONSTANTS), allowed_attrs={})
        allowed = (ast.Expr, ast.BinOp, ast.UnaryOp, ast.Call, ast.Name)
        evaluator.nodes = {kind: walk for kind, walk in evaluator.nodes.items() if kind in allowed}
        evaluator.nodes[ast.Constant] = self._number
        return evaluator

    def _number(self, node: ast.Constant) -> Decimal:
        # as it is written: Python's own number is binary, and would have to be rounded
        return self._context.create_decimal(self._source[node.col_offset : node.end_col_offset])

    def _modulo(self, a: Decimal, b: Decimal) -> Decimal:
        if not b:
            raise DivisionByZero
        rest = self._context.remainder(a, b)
        return self._context.add(rest, b) if rest and rest.is_signed() != b.is_signed() else rest

    def _floor_divide(self, a: Decimal, b: Decimal) -> Decimal:
        return self._floor(self._context.divide(self._context.subtract(a, self._modulo(a, b)), b))

    def _abs(self, a: Decimal) -> Decimal:
        return self._context.abs(a)

    def _sqrt(self, a: Decimal) -> Decimal:
        return self._context.sqrt(a)

    def _floor(self, a: Decimal) -> Decimal:
        return a.to_integral_value(ROUND_FLOOR, self._context)

    def _ceil(self, a: Decimal) -> Decimal:
        return a.to_integral_value(ROUND_CEILING, self._context)

    def _max(self, a: Decimal, *others: Decimal) -> Decimal:
        return max(a, *others) if others else a

    def _min(self, a: Decimal, *others: Decimal) -> Decimal:
        return min(a, *others) if others else a

    def _round(self, a: Decimal, places: Decimal = Decimal(0)) -> Decimal:
        if places not in range(-_DIGITS, _DIGITS):
            raise CannotCalculate(f"round(number, places) takes whole places below {_DIGITS}")
        # half up, as people do who round money
        last = Decimal(1).scaleb(-int(places))
        return self._context.multiply(self._context.divide(a, last).to_integral_value(ROUND_HALF_UP), last)


def _as_python(expression: str) -> str:
    """Return what was written for people in Python's syntax; raise CannotCalculate for what is no arithmetic."""
    text = " ".join(expression.translate(_AS_ASCII).split()).rstrip(" =?")
    if not text:
        raise CannotCalculate("there is nothing to calculate")
    if _HEXADECIMAL.search(text):
        raise CannotCalculate("write numbers in decimal, and * for times")
    text = _TIMES.sub(" * ", _without_thousands(text))
    text = _without_percent(text)
    words = []
    for token in _TOKEN.finditer(text):
        if token["name"] and token["name"].lower() not in _NAMES:
            raise CannotCalculate(f"{token['name'][:32]!r} is not known: there are {', '.join(sorted(_NAMES))}")
        if token["other"]:
            raise CannotCalculate(f"{token['other'][:32]!r} is not known here: write numbers, + - * / ^ % and brackets")
        if token["number"]:
            # Python refuses a number that begins with 0
            words.append(token["number"].lstrip("0") or "0" if token["number"].isdigit() else token["number"])
        else:
            words.append({"^": "**"}.get(token["sign"], token["sign"]) or token["name"].lower())
    if words.count("(") > _MAX_DEPTH or words.count("**") > _MAX_POWERS or _MANY_SIGNS.search(text):
        raise CannotCalculate("too much at once: calculate in several steps")
    return " ".join(words)


def _without_thousands(text: str) -> str:
    """Take the commas out of 1,234.5 where they can't be anything else."""
    if _CALL.search(text):
        if _THOUSANDS.search(text):
            raise CannotCalculate("write numbers without a comma inside: it could be between two arguments")
        return text
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    if "," in text:
        raise CannotCalculate("a comma can only divide thousands (1,234.5): write decimals with a point")
    return text


def _without_percent(text: str) -> str:
    """Write 15% as (15/100); what is left of % is the rest of a division."""
    if "%" not in text:
        return text
    if not re.search(r"\d", _ANY_PERCENT.sub("", text)):
        return _ANY_PERCENT.sub(r"(\g<number>/100)", text)
    if _PERCENT_MORE.search(text):
        raise CannotCalculate("say what the percentage is of: 100 * 1.1, or 100 + 10% of 100")
    text = _PERCENT_ALONE.sub(r"(\g<number>/100)", _PERCENT_OF.sub(r"(\g<number>/100) *", text))
    if _PERCENT_LEFT.search(text):
        raise CannotCalculate("% can be read in two ways here: write a percentage as a fraction, 0.15 for 15%")
    return text


def _shown(value: Decimal) -> str:
    """Return a number as people write it."""
    if not value:
        return "0"
    is_whole = value == value.to_integral_value()
    value = value.normalize(Context(prec=_DIGITS))
    if not is_whole and len(value.as_tuple().digits) > _EXACT_DIGITS:
        value = value.normalize(Context(prec=max(_SHOWN_DIGITS, value.adjusted() + 3)))
    if -7 < value.adjusted() < _DIGITS:
        return f"{value:f}"
    return f"{value.normalize(Context(prec=_SHOWN_DIGITS)):e}"
