"""Draw showers from an exported model with nothing but numpy and ONNX Runtime.

caloforge export zoo:clic-2dgan -o model.onnx
python examples/onnx_without_caloforge.py model.onnx
"""

import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["caloforge"])
rng = np.random.default_rng(seed=1)
low, high = about["domain"]["energy"]  # MeV, what the model was trained on

n = 100
inputs = {
    "noise": rng.standard_normal((n, about["noise_size"]), dtype=np.float32),
    "energy": np.full(n, (low + high) / 2, dtype=np.float32),
}
if about["conditions"]:  # what the model wants to know beside the energy, e.g. x in mm: all in the middle here
    inputs["condition"] = np.zeros((n, len(about["conditions"])), dtype=np.float32)
    for i, name in enumerate(about["conditions"]):
        inputs["condition"][:, i] = np.mean(about["domain"].get(name, 0))

(voxels,) = session.run(None, inputs)  # (n, number of voxels) in MeV
response = voxels.sum(axis=1) / inputs["energy"]
mean, error, hits = response.mean(), response.std() / n**0.5, (voxels > 0).sum(axis=1).mean()
print(f"{about['model']}: {n} showers {tuple(about['shape'])} of {inputs['energy'][0]:.4g} MeV")
print(f"visible energy {mean:.4f} +- {error:.4f} of it, {hits:.1f} hits")
