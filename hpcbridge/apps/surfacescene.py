"""What the demo's trame application draws: a surface, its lids, a slice, and the camera.

Needs the wheel `vtk`, surfacefields.py beside it, and nothing of hpcbridge.
"""

import ctypes
import os
import sys

# VTK tries X first and complains on standard error when there is none. Without a display go to EGL
# at once, which takes a GPU if the job was given one and Mesa's software renderer if not.
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

import numpy as np

# Single modules, not `import vtk`: that loads all of VTK, seconds on a cold file system.
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  (registers the OpenGL render window)
from vtkmodules.vtkCommonDataModel import vtkPlane
from vtkmodules.vtkFiltersCore import vtkClipPolyData, vtkFlyingEdges3D, vtkMassProperties
from vtkmodules.vtkFiltersGeometry import vtkGeometryFilter, vtkImageDataGeometryFilter
from vtkmodules.vtkFiltersModeling import vtkOutlineFilter
from vtkmodules.vtkInteractionStyle import vtkInteractorStyleTrackballCamera
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkColorTransferFunction,
    vtkPolyDataMapper,
    vtkRenderer,
    vtkRenderWindow,
)
from vtkmodules.vtkRenderingUI import vtkGenericRenderWindowInteractor

if __package__:  # python -m hpcbridge.apps.surfaces
    from hpcbridge.apps.surfacefields import COLOURED_BY, Volume
else:
    from surfacefields import COLOURED_BY, Volume

COLOUR_MAPS = {
    "Ice and fire": "#1c3f78 #2a86b8 #4fc0c9 #a9e5c8 #f4e9a8 #f9b45c #ee6c4d #d1383d",
    "Viridis": "#440154 #414487 #2a788e #22a884 #7ad151 #fde725",
    "Cool to warm": "#3b4cc0 #7b9ff9 #c9d7f0 #f2cbb7 #ee8468 #b40426",
    "Plasma": "#0d0887 #6a00a8 #b12a90 #e16462 #fca636 #f0f921",
    "Porcelain": "#5f6c7b #94a3b3 #c9d3dc #f4f1ea #e8d9bd",
}
BACKGROUNDS = {
    "dark": ((0.035, 0.045, 0.075), (0.10, 0.14, 0.22), (0.45, 0.52, 0.64)),
    "light": ((0.99, 0.99, 1.0), (0.86, 0.90, 0.95), (0.45, 0.50, 0.58)),
}
"""Bottom, top, and the edges of the box."""
CAMERAS = {"x": (1, 0, 0), "y": (0, -1, 0), "z": (0, 0, 1), "corner": (0.62, -0.80, 0.48)}


def colour_scale(name: str, low: float, high: float) -> vtkColorTransferFunction:
    """One of :data:`COLOUR_MAPS` over a range."""
    scale = vtkColorTransferFunction()
    scale.SetColorSpaceToLab()
    colours = COLOUR_MAPS[name].split()
    for index, colour in enumerate(colours):
        red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        scale.AddRGBPoint(low + (high - low) * index / (len(colours) - 1), red, green, blue)
    return scale


def require_renderer(window: vtkRenderWindow) -> None:
    """End with a message where VTK found no way to render: it would crash at the first picture."""
    if window.GetClassName() != "vtkOSOpenGLRenderWindow":
        return
    for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return
    sys.exit(
        "This machine cannot render: there is no display, no EGL and no OSMesa. "
        "On Debian and Ubuntu install libegl1 and libgl1-mesa-dri."
    )


class Scene:
    """The render window, and what must stay alive as long as it does."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.contour = vtkFlyingEdges3D()
        self.contour.SetInputData(volume.grid)
        self.contour.InterpolateAttributesOn()
        self.faces = vtkGeometryFilter()
        self.faces.SetInputData(volume.grid)
        self.cut = vtkImageDataGeometryFilter()
        self.cut.SetInputData(volume.grid)
        self.caps, self.section = clipped(self.faces), clipped(self.cut)
        self.measure = vtkMassProperties()
        self.measure.SetInputConnection(self.contour.GetOutputPort())
        outline = vtkOutlineFilter()
        outline.SetInputData(volume.grid)
        self.renderer = vtkRenderer()
        self.renderer.GradientBackgroundOn()
        self.surface, self.lids, self.slice, self.box = (
            self._actor(source) for source in (self.contour, self.caps, self.cut, outline)
        )
        for flat in (self.lids, self.slice):
            flat.GetProperty().SetInterpolationToFlat()
            flat.GetProperty().SetColor(0.90, 0.88, 0.83)
        self.slice.GetProperty().SetAmbient(0.35)
        self.box.GetMapper().ScalarVisibilityOff()
        self.plane = vtkPlane()
        self.window = vtkRenderWindow()
        self.window.OffScreenRenderingOn()
        # Multisampling takes Mesa's software renderer three times as long as all the rest.
        self.window.SetMultiSamples(0)
        self.window.SetSize(960, 600)
        self.window.AddRenderer(self.renderer)
        require_renderer(self.window)
        # Not the platform's own: that loads X libraries, and nobody sits at this window.
        self.interactor = vtkGenericRenderWindowInteractor()
        style = vtkInteractorStyleTrackballCamera()
        self.interactor.SetInteractorStyle(style)
        self.interactor.SetRenderWindow(self.window)
        # Pictures are rendered as they are sent; one more for each mouse event halves their rate.
        self.interactor.EnableRenderOff()
        # Smooth edges for a picture that stays; rough ones, and more pictures, while it moves.
        self.renderer.UseFXAAOn()
        style.AddObserver("StartInteractionEvent", self._moving)
        style.AddObserver("EndInteractionEvent", lambda *_: self.renderer.UseFXAAOn())
        self.window.AddObserver("WindowResizeEvent", self._resized)
        self.look_from("corner")

    def _moving(self, *_: object) -> None:
        self._side = ""  # the camera is the user's
        self.renderer.UseFXAAOff()

    def _resized(self, *_: object) -> None:
        if self._side:
            self.look_from(self._side)

    def _actor(self, source: object) -> vtkActor:
        mapper = vtkPolyDataMapper()
        mapper.SetInputConnection(source.GetOutputPort())
        mapper.SetScalarModeToUsePointFieldData()
        mapper.SelectColorArray("colour")
        mapper.UseLookupTableScalarRangeOn()
        actor = vtkActor()
        actor.SetMapper(mapper)
        actor.GetProperty().SetAmbient(0.14)
        actor.GetProperty().SetSpecular(0.3)
        actor.GetProperty().SetSpecularPower(28)
        self.renderer.AddActor(actor)
        return actor

    def look_from(self, side: str) -> None:
        """Turn the camera to a side and fit the box in."""
        self._side = side
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(0, 0, 0)
        camera.SetPosition(*CAMERAS[side])
        camera.SetViewUp(*((0, 1, 0) if side == "z" else (0, 0, 1)))
        self.renderer.ResetCamera(-0.5, 0.5, -0.5, 0.5, -0.5, 0.5)

    def theme(self, name: str) -> None:
        """The background of the light or the dark page."""
        bottom, top, edges = BACKGROUNDS[name]
        self.renderer.SetBackground(*bottom)
        self.renderer.SetBackground2(*top)
        self.box.GetProperty().SetColor(*edges)

    def shape(self, level: float, representation: str) -> None:
        """The surface at a level, its lids where it is a solid, or its wires."""
        self.contour.SetValue(0, level)
        solid = representation == "solid"
        for lid in (self.caps, self.section):
            lid.SetValue(level)
        self.lids.SetVisibility(solid)
        self.slice.GetMapper().SetInputConnection(
            (self.section if solid else self.cut).GetOutputPort()
        )
        wires = representation == "wires"
        self.surface.GetProperty().SetRepresentation(1 if wires else 2)
        self.surface.GetProperty().SetLighting(not wires)

    def colours(self, name: str, coloured_by: str) -> tuple[float, float]:
        """Paint by a colour map; returns the range, which leaves out the outermost 2 %."""
        self.contour.Update()
        data = self.contour.GetOutput().GetPointData().GetArray("colour")
        found = np.asarray(data) if data is not None and data.GetNumberOfTuples() else np.zeros(1)
        low, high = (float(each) for each in np.percentile(found, (2, 98)))
        high = max(high, low + 1e-6)
        scale = colour_scale(name, low, high)
        for actor in (self.surface, self.lids, self.slice):
            actor.GetMapper().SetLookupTable(scale)
        # Curvature means something on the surface only: what is cut stays plain.
        plain = "curvature" in COLOURED_BY[coloured_by]
        self.lids.GetMapper().SetScalarVisibility(not plain)
        self.slice.GetMapper().SetScalarVisibility(not plain or not self.lids.GetVisibility())
        if plain:
            self.slice.GetMapper().SelectColorArray("field")
            self.slice.GetMapper().SetLookupTable(colour_scale(name, *self.volume.levels))
        else:
            self.slice.GetMapper().SelectColorArray("colour")
        return low, high

    def area(self) -> float:
        """The surface's area in the box, whose side is 1."""
        self.measure.Update()
        return float(self.measure.GetSurfaceArea())

    def slices(self, shown: bool, axis: str, share: float, cut_away: bool) -> None:
        """A slice at a share, 0 to 1, of an axis; what lies before it is cut away, or not."""
        index = "xyz".index(axis)
        last = self.volume.grid.GetDimensions()[0] - 1
        at = round(share * last)
        extent = [0, last] * 3
        extent[2 * index : 2 * index + 2] = [at, at]
        self.cut.SetExtent(*extent)
        self.slice.SetVisibility(shown)
        normal = [0.0, 0.0, 0.0]
        normal[index] = 1.0 if axis == "y" else -1.0  # what is towards the camera goes
        origin = [0.0, 0.0, 0.0]
        origin[index] = at / last - 0.5
        self.plane.SetNormal(normal)
        self.plane.SetOrigin(origin)
        for actor in (self.surface, self.lids):
            actor.GetMapper().RemoveAllClippingPlanes()
            if shown and cut_away:
                actor.GetMapper().AddClippingPlane(self.plane)


def clipped(source: object) -> vtkClipPolyData:
    """The part of a plane that lies inside the solid, where the field is below the level."""
    clip = vtkClipPolyData()
    clip.SetInputConnection(source.GetOutputPort())
    clip.InsideOutOn()
    return clip
