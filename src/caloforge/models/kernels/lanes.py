"""What Numba has no words for: several comparisons in one instruction, and the whole of a product.

Each is a function for compiled code alone, made of the compiler's own instructions, which exist on every processor:
where it has no vectors they are done one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...extras import numba

LANES = 32
"""Numbers compared at once."""


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    made: Callable[..., Any] = numba().extending.intrinsic(function)
    return made


_types, _ir = numba().types, numba().core.cgutils.ir


def _loaded(context: Any, builder: Any, array_type: Any, array: Any, index: Any, kind: Any) -> tuple[Any, Any]:
    """A vector of `LANES` numbers of an array from an index on, and its type."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = _ir.VectorType(kind, LANES)
    place = builder.bitcast(builder.gep(data, [index]), vector.as_pointer())
    return builder.load(place, align=kind.width // 8 if isinstance(kind, _ir.IntType) else 4), vector


def _everywhere(builder: Any, value: Any, vector: Any) -> Any:
    """A vector of one number."""
    first = builder.insert_element(_ir.Constant(vector, _ir.Undefined), value, _ir.Constant(_ir.IntType(32), 0))
    places = _ir.Constant(_ir.VectorType(_ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, _ir.Constant(vector, _ir.Undefined), places)


def _as_bits(builder: Any, found: Any) -> Any:
    return builder.zext(builder.bitcast(found, _ir.IntType(LANES)), _ir.IntType(64))


@_intrinsic
def above(typing: Any, x: Any, first: Any, threshold: Any) -> Any:
    """Which of the `LANES` numbers (float32) of an array from ``first`` on lie above a threshold, as bits."""

    def made(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        values, vector = _loaded(context, builder, signature.args[0], given[0], given[1], _ir.FloatType())
        return _as_bits(builder, builder.fcmp_ordered(">", values, _everywhere(builder, given[2], vector)))

    return _types.int64(x, _types.int64, _types.float32), made


@_intrinsic
def outside(typing: Any, x: Any, first: Any, fine: Any) -> Any:
    """Which of the `LANES` numbers (uint16) of an array from ``first`` on are under ``fine`` or over 65535 - fine."""

    def made(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        values, vector = _loaded(context, builder, signature.args[0], given[0], given[1], _ir.IntType(16))
        edge = _everywhere(builder, given[2], vector)  # both ends are one, as 65535 is followed by 0
        return _as_bits(builder, builder.icmp_unsigned("<", builder.add(values, edge), builder.add(edge, edge)))

    return _types.int64(x, _types.int64, _types.uint16), made


@_intrinsic
def first_bit(typing: Any, bits: Any) -> Any:
    """The place of the lowest bit that is set; there must be one."""

    def made(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.cttz(given[0], _ir.Constant(_ir.IntType(1), 1))

    return _types.int64(_types.int64), made


@_intrinsic
def long_product(typing: Any, a: Any, b: Any) -> Any:
    """The upper and the lower 64 bits of a product of two uint64: one instruction gives both."""

    def made(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        wide = _ir.IntType(128)
        product = builder.mul(*(builder.zext(each, wide) for each in given))
        halves = (builder.lshr(product, _ir.Constant(wide, 64)), product)
        return context.make_tuple(builder, signature.return_type, [builder.trunc(x, _ir.IntType(64)) for x in halves])

    return _types.UniTuple(_types.uint64, 2)(_types.uint64, _types.uint64), made
