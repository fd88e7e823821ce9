"""The fields of the demo's trame application: triply periodic minimal surfaces, sampled on a grid.

Each surface is the set f(x, y, z) = level of a trigonometric polynomial, the usual approximations
of Schwarz's, Schoen's and Neovius's surfaces (von Schnering and Nesper, Z. Phys. B 83, 1991).
Needs the wheel `vtk` (which brings NumPy) and nothing of hpcbridge.
"""

import math
from collections.abc import Callable

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData

Field = np.ndarray
Formula = Callable[[Field, Field, Field], Field]
sin, cos = np.sin, np.cos

SURFACES: dict[str, tuple[str, Formula]] = {
    "gyroid": (
        "Gyroid (Schoen)",
        lambda x, y, z: sin(x) * cos(y) + sin(y) * cos(z) + sin(z) * cos(x),
    ),
    "primitive": ("Primitive (Schwarz P)", lambda x, y, z: cos(x) + cos(y) + cos(z)),
    "diamond": (
        "Diamond (Schwarz D)",
        lambda x, y, z: cos(x) * cos(y) * cos(z) - sin(x) * sin(y) * sin(z),
    ),
    "iwp": (
        "I-WP (Schoen)",
        lambda x, y, z: (
            2 * (cos(x) * cos(y) + cos(y) * cos(z) + cos(z) * cos(x))
            - cos(2 * x)
            - cos(2 * y)
            - cos(2 * z)
        ),
    ),
    "neovius": (
        "Neovius",
        lambda x, y, z: 3 * (cos(x) + cos(y) + cos(z)) + 4 * cos(x) * cos(y) * cos(z),
    ),
}
COLOURED_BY = {
    "mean": "Mean curvature",
    "gauss": "Gaussian curvature",
    "height": "Height",
    "centre": "Distance from the centre",
}


def periodic_gradient(values: Field, step: float) -> list[Field]:
    """Central differences along each axis of a field whose ends meet."""
    return [
        (np.roll(values, -1, axis) - np.roll(values, 1, axis)) / (2 * step) for axis in (0, 1, 2)
    ]


def curvatures(values: Field, step: float) -> tuple[Field, Field]:
    """Mean and Gaussian curvature of the level sets of a periodic field, at each of its points.

    Goldman, Computer Aided Geometric Design 22, 2005, equations 4.1 and 4.2.
    """
    gx, gy, gz = gradient = periodic_gradient(values, step)
    (hxx, hxy, hxz), (_, hyy, hyz), (_, _, hzz) = (periodic_gradient(g, step) for g in gradient)
    square = gx * gx + gy * gy + gz * gz + 1e-9
    along = (
        gx * gx * hxx + gy * gy * hyy + gz * gz * hzz
        + 2 * (gx * gy * hxy + gx * gz * hxz + gy * gz * hyz)
    )  # fmt: skip
    mean = (square * (hxx + hyy + hzz) - along) / (2 * square**1.5)
    gauss = (
        gx * gx * (hyy * hzz - hyz**2)
        + gy * gy * (hxx * hzz - hxz**2)
        + gz * gz * (hxx * hyy - hxy**2)
        + 2 * gx * gy * (hxz * hyz - hxy * hzz)
        + 2 * gx * gz * (hxy * hyz - hxz * hyy)
        + 2 * gy * gz * (hxy * hxz - hyz * hxx)
    ) / square**2
    return mean, gauss


def on_grid(surface: str, x: Field, y: Field, z: Field) -> Field:
    """A surface's field at all points that these coordinates make."""
    return SURFACES[surface][1](x[:, None, None], y[None, :, None], z[None, None, :])


class Volume:
    """The field on a grid: one period is sampled, and repeated as often as is asked for."""

    def __init__(self, resolution: int) -> None:
        self._samples = resolution
        self._step = 2 * math.pi / resolution
        self._cell: dict[str, Field] = {}
        self.grid = vtkImageData()
        self.sorted: Field = np.zeros(1)

    def sample(self, surface: str) -> None:
        """One period of a surface's field, and of the curvatures of its level sets."""
        axis = np.arange(self._samples) * self._step
        values = on_grid(surface, axis, axis, axis)
        mean, gauss = curvatures(values, self._step)
        self._cell = {"field": values, "mean": mean, "gauss": gauss}
        # For the shares of the volume: beside the planes of symmetry, where values would be equal.
        apart = [(np.arange(40) + shift) * math.pi / 20 for shift in (0.37, 0.71, 0.13)]
        self.sorted = np.sort(on_grid(surface, *apart), axis=None)

    def fill(self, cells: int, coloured_by: str) -> None:
        """Make the grid of `cells` periods a side, with the field and the values for colours."""
        count = cells * self._samples + 1
        self.grid.Initialize()
        self.grid.SetDimensions(count, count, count)
        self.grid.SetSpacing(1 / (count - 1), 1 / (count - 1), 1 / (count - 1))
        self.grid.SetOrigin(-0.5, -0.5, -0.5)
        self._put("field", self._repeated("field", count))
        if coloured_by in self._cell:
            self._put("colour", self._repeated(coloured_by, count))
        else:
            at = np.linspace(-0.5, 0.5, count)
            x, y, z = at[:, None, None], at[None, :, None], at[None, None, :]
            far = z + 0 * x + 0 * y if coloured_by == "height" else np.sqrt(x * x + y * y + z * z)
            self._put("colour", far)
        self.grid.GetPointData().SetActiveScalars("field")

    def _repeated(self, name: str, count: int) -> Field:
        return np.pad(self._cell[name], [(0, count - self._samples)] * 3, mode="wrap")

    def _put(self, name: str, values: Field) -> None:
        array = numpy_to_vtk(values.astype(np.float32).ravel(order="F"), deep=True)
        array.SetName(name)
        self.grid.GetPointData().AddArray(array)

    def share_below(self, level: float) -> float:
        """The share of the volume, 0 to 1, where the field is below a level."""
        return float(np.searchsorted(self.sorted, level)) / len(self.sorted)

    @property
    def levels(self) -> tuple[float, float]:
        """The levels that have something to show."""
        low, high = float(self.sorted[0]), float(self.sorted[-1])
        return round(low + 0.04 * (high - low), 2), round(high - 0.04 * (high - low), 2)
