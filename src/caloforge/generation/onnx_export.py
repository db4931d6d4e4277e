"""The verb `export`: a trained model with its transforms as an ONNX file that runs without caloforge and torch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import __version__, extras
from ..checkpoint import Checkpoint
from ..checkpoint_file import checkpoint_digest, checkpoint_kind
from ..errors import CaloforgeError, lookup
from ..image_checkpoint import ImageCheckpoint
from ..output import UnfinishedFile, check_output
from ..zoo import find_checkpoint
from .chain import PAR04_CONDITIONS, ImageChain, Par04Chain, ShowerChain

LAYOUTS = {"caloforge": "named inputs in MeV, mm and rad", "par04": "what Geant4's example Par04 feeds"}
"""What an exported file's inputs and output may look like."""

OPSET = 18
METADATA = "caloforge"
"""Key of the metadata under which everything stands as JSON."""

UNITS = {"energy": "MeV", "log_energy": "ln(MeV)", "p_x": "MeV", "p_y": "MeV", "p_z": "MeV", "x": "mm", "y": "mm"}
"""Of conditions; what is not here is in rad or, as a tangent, a number."""


def export(checkpoint: str | Path, output: str | Path, *, layout: str = "caloforge", overwrite: bool = False) -> Path:
    """Write a trained model as an ONNX file: noise and physical conditions in, MeV out, for any batch.

    Args:
        checkpoint: path of a checkpoint, or ``zoo:NAME``; of showers or of images.
        output: path of the file to write.
        layout: "caloforge" (named inputs in MeV, mm, rad) or "par04" (what the C++ of Geant4's example Par04 feeds).
        overwrite: replace an existing file.

    Returns:
        The path of the file. Its metadata, JSON under the key ``caloforge``, tells inputs, units, detector and origin.

    Raises:
        CaloforgeError: if the checkpoint, the layout or the output cannot be used, or ONNX is not installed.
    """
    path = Path(output)
    check_output(path, overwrite=overwrite)
    lookup(LAYOUTS, layout, "a layout")
    extras.onnx()
    kind = checkpoint_kind(find_checkpoint(checkpoint))
    if kind == "images":
        if layout != "caloforge":
            raise CaloforgeError(f"'{checkpoint}' makes images of events, not showers; leave out the layout 'par04'.")
        made = describe_images(ImageCheckpoint.load(checkpoint))
    else:
        made = (describe_par04 if layout == "par04" else describe_showers)(Checkpoint.load(checkpoint))
    module, example, described = made
    described |= {"layout": layout, "caloforge": __version__, "checkpoint_sha256": checkpoint_digest(checkpoint)}
    with UnfinishedFile(path, overwrite=overwrite) as temporary:
        write_onnx(module, example, temporary, output="images" if kind == "images" else "voxels", metadata=described)
    return path


Described = tuple[nn.Module, dict[str, Tensor], dict[str, Any]]
"""What is exported, an example of its inputs by name, and what the metadata tell."""


def describe_showers(checkpoint: Checkpoint) -> Described:
    """A model of showers with inputs ``noise``, ``energy`` and, if there are further conditions, ``condition``."""
    chain = ShowerChain(checkpoint).eval()
    energy = torch.full((2,), sum(checkpoint.domain["energy"]) / 2)
    example = {"noise": torch.zeros(2, chain.noise_size), "energy": energy}
    inputs = {"noise": f"standard normal (N, {chain.noise_size})", "energy": "kinetic energies (N,) in MeV"}
    if chain.given:
        example["condition"] = torch.ones(2, len(chain.given))
        named = ", ".join(f"{name} [{_unit(name)}]" for name in chain.given)
        inputs["condition"] = f"(N, {len(chain.given)}): {named}"
    return chain, example, {"inputs": inputs, "conditions": chain.given, **_told(checkpoint, chain.noise_size)}


def describe_par04(checkpoint: Checkpoint) -> Described:
    """A model of showers as Par04's C++ wants it, with the commands that its macro needs."""
    chain = Par04Chain(checkpoint).eval()
    example = {"input": torch.full((2, chain.noise_size + PAR04_CONDITIONS), 0.05)}
    n_z, n_phi, n_r = chain.detector_shape
    commands = {
        "setSizeLatentVector": chain.noise_size,
        "setSizeConditionVector": PAR04_CONDITIONS,
        "setNbOfRhoCells": n_r,
        "setNbOfPhiCells": n_phi,
        "setNbOfZCells": n_z,
    }
    told = _told(checkpoint, chain.noise_size) | {
        "inputs": {
            "input": f"(N, {chain.noise_size} + 4): standard normal, energy / 1 024 000 MeV, theta / 90 deg, 2 ignored"
        },
        "output": "voxel energies over the incident energy (N, V), in the order (r, phi, z) or (x, y, z), last fastest",
        "macro": [f"/Par04/inference/{name} {value}" for name, value in commands.items()],
    }  # fmt: skip
    return chain, example, told


def describe_images(checkpoint: ImageCheckpoint) -> Described:
    """A model of images of events with inputs ``noise`` and ``fast``."""
    chain = ImageChain(checkpoint).eval()
    shape = checkpoint.grid.shape
    example = {"noise": torch.zeros(2, chain.noise_size), "fast": torch.ones(2, *shape)}
    told = {
        "inputs": {"noise": f"standard normal (N, {chain.noise_size})", "fast": f"(N, {shape[0]}, {shape[1]}) in MeV"},
        "output": f"towers (N, {shape[0]}, {shape[1]}) in MeV",
        "noise_size": chain.noise_size,
        "model": checkpoint.model_name,
        "grid": checkpoint.grid.to_json(),
    }
    return chain, example, told


def _told(checkpoint: Checkpoint, noise_size: int) -> dict[str, Any]:
    detector = checkpoint.detector
    return {
        "output": f"voxel energies (N, {detector.n_voxels}) in MeV, flat in the detector's order",
        "noise_size": noise_size,
        "model": checkpoint.model_name,
        "shape": list(detector.shape),
        "threshold_mev": detector.readout.threshold,
        "domain": checkpoint.domain,
        "detector": detector.to_toml(),
    }


def _unit(name: str) -> str:
    return UNITS.get(name, "1" if name.startswith("tan_") else "rad")


def write_onnx(
    module: nn.Module,
    example: Mapping[str, Tensor],
    path: Path,
    *,
    output: str = "voxels",
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a module as an ONNX file whose inputs may have any number of rows.

    Args:
        module: takes the example's tensors in order; in evaluation mode.
        example: inputs by name, two rows each.
        path: of the file, which is written in place.
        output: name of the output.
        metadata: plain data, kept as JSON under `METADATA`.

    Raises:
        CaloforgeError: if ONNX is not installed or does not know an operation of the module.
    """
    extras.onnx()
    rows = torch.export.Dim("batch", min=1, max=2**20)
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                tuple(example.values()),
                dynamo=True,
                dynamic_shapes=tuple({0: rows} for _ in example),
                input_names=list(example),
                output_names=[output],
                opset_version=OPSET,
                custom_translation_table=_translations(),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0][:200]
            raise CaloforgeError(
                f"ONNX cannot express this model ({reason}); generate with caloforge itself."
            ) from None
    assert program is not None
    _forget_where(program.model)
    program.model.metadata_props[METADATA] = json.dumps(dict(metadata or {}))
    program.save(path)


def _forget_where(model: Any) -> None:
    """Drop what torch notes of each operation: the lines of source it came from, with this machine's paths."""
    for part in (model.graph, *model.functions.values()):
        for node in part.all_nodes():
            node.metadata_props.clear()
            for value in (*node.inputs, *node.outputs):
                if value is not None:
                    value.metadata_props.clear()


def _translations() -> dict[Any, Callable[..., Any]]:
    """What torch's exporter lacks, or does less precisely than torch."""
    from onnxscript import opset18 as op

    def prod(x: Any, dims: Sequence[int], output_dtype: Any = None) -> Any:
        axes: Any = op.Constant(value_ints=list(dims))
        return op.ReduceProd(x, axes, keepdims=0)

    def ndtr(x: Any) -> Any:
        # ONNX has no erfc, and 1 - erf has no digits left far out: erfc by a Chebyshev fit of relative error under
        # 1.2e-7 everywhere (Press et al., "Numerical Recipes", 2nd edition 1992, section 6.2, erfcc).
        def number(value: float) -> Any:
            return op.Constant(value_float=value)

        z = op.Mul(op.Abs(x), number(0.7071067811865476))
        t = op.Reciprocal(op.Add(op.Mul(z, number(0.5)), number(1.0)))
        poly = number(_ERFC[0])
        for coefficient in _ERFC[1:]:
            poly = op.Add(op.Mul(poly, t), number(coefficient))
        half = op.Mul(op.Mul(t, number(0.5)), op.Exp(op.Sub(poly, op.Mul(z, z))))
        return op.Where(op.Greater(x, number(0.0)), op.Sub(number(1.0), half), half)

    return {torch.ops.prims.prod.default: prod, torch.ops.aten.special_ndtr.default: ndtr}


_ERFC = (
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
    -1.26551223,
)  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's exporter and compiler from talking of what its users cannot change."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
