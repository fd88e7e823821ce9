"""Writes a file worth looking at: Schoen's gyroid, coloured by its distance from the middle.

    python -m scripts.gyroid FILE.vtp

The surface is sin x cos y + sin y cos z + sin z cos x = 0 (A. H. Schoen, NASA TN D-5541, 1970).
"""

import sys
from pathlib import Path

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D
from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

POINTS = 64
PERIODS = 2


def write(path: Path) -> None:
    """Write the surface as VTK XML poly data; the folder is made."""
    side = np.linspace(-np.pi * PERIODS, np.pi * PERIODS, POINTS)
    z, y, x = np.meshgrid(side, side, side, indexing="ij")  # VTK counts x fastest
    field = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)
    image = vtkImageData()
    image.SetDimensions(POINTS, POINTS, POINTS)
    image.SetOrigin(side[0], side[0], side[0])
    image.SetSpacing(*[side[1] - side[0]] * 3)
    image.GetPointData().SetScalars(numpy_to_vtk(field.ravel(), deep=True))
    surface = vtkFlyingEdges3D()
    surface.SetInputData(image)
    surface.SetValue(0, 0.0)
    surface.ComputeScalarsOff()
    surface.Update()
    mesh = surface.GetOutput()
    points = np.array([mesh.GetPoint(i) for i in range(mesh.GetNumberOfPoints())])
    distance = numpy_to_vtk(np.linalg.norm(points, axis=1), deep=True)
    distance.SetName("distance")
    mesh.GetPointData().SetScalars(distance)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = vtkXMLPolyDataWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(mesh)
    writer.SetDataModeToBinary()  # ParaView 5.11 as Debian has it reads no appended data
    writer.Write()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
