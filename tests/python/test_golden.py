"""Agreement with mace-torch on the reference models."""
# SPDX-License-Identifier: MIT

import pytest

from equipot import EquipotError
from equipot.golden import QUANTITIES, check, references, unpack

MODELS = [
    "A_small16_HCO",
    "B_128x0e_128x1o_agnesi_zbl",
    "B_128x0e_agnesi_zbl",
    "C_1layer_32",
    "D_density32_agnesi_zbl",
    "E_residualfirst16_L1",
    "F_multihead16_density",
    "G_3layer_L2_corr2",
    "O_off23small_like_96x0e",
]


@pytest.fixture(scope="module", params=MODELS)
def case(request, golden_folder, tmp_path_factory):
    folder = golden_folder / request.param
    if not folder.is_dir():
        pytest.skip(f"no reference model {request.param}")
    return unpack(folder, tmp_path_factory.mktemp("golden")), list(references(folder / "reference.npz"))


@pytest.mark.parametrize("radial", ["exact", "splined"])
def test_agrees_with_mace(case, radial):
    # The bounds are what the project promises; see QUANTITIES.
    for name, found in check(*case, radial).items():
        bound = QUANTITIES[name][1 if radial == "exact" else 2]
        assert found.value <= bound, f"{name} of {found.structure}"


def test_unsupported_blocks_are_refused(golden_folder, tmp_path):
    folder = golden_folder / "H_nonlinear16_mh1like"
    if not folder.is_dir():
        pytest.skip("no such reference model")
    with pytest.raises(EquipotError, match=r"[Nn]on-?[Ll]inear"):
        unpack(folder, tmp_path)
    assert not list(tmp_path.glob("*.equipot"))
