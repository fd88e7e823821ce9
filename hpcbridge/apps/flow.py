"""The application of the demo: streamlines of the ABC flow, rendered here and shown in a browser.

Run as a plain script (`python flow.py --host 127.0.0.1 --port 9000 --authKey KEY`); it needs the
wheels `vtk` and `wslink` and nothing of hpcbridge. The arguments are wslink's own (host, port,
authKey, timeout in seconds of idleness, content) and `--resolution` and `--streamlines`. wslink's
ready line comes after the first picture was rendered: a node that cannot render is never ready.

The flow is Arnold, Beltrami and Childress's, v = (A sin z + C cos y, B sin x + A cos z,
C sin y + B cos x): a steady solution of Euler's equations whose streamlines are partly chaotic
(Dombre et al., J. Fluid Mech. 167, 1986).
"""

import argparse
import ctypes
import hashlib
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# VTK tries X first and complains on standard error when there is none. Without a display go to EGL
# at once, which takes a GPU if the job was given one and Mesa's software renderer if not.
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

# Single modules, not `import vtk`: that loads all of VTK, seconds on a cold file system.
import vtkmodules.vtkRenderingFreeType
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  (registers the OpenGL render window)
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkFiltersCore import vtkArrayCalculator, vtkTubeFilter
from vtkmodules.vtkFiltersFlowPaths import vtkStreamTracer
from vtkmodules.vtkFiltersModeling import vtkOutlineFilter
from vtkmodules.vtkFiltersSources import vtkPointSource
from vtkmodules.vtkInteractionStyle import vtkInteractorStyleTrackballCamera
from vtkmodules.vtkInteractionWidgets import vtkOrientationMarkerWidget
from vtkmodules.vtkRenderingAnnotation import vtkAxesActor, vtkScalarBarActor
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkColorTransferFunction,
    vtkPolyDataMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkTextProperty,
)
from vtkmodules.vtkRenderingUI import vtkGenericRenderWindowInteractor
from vtkmodules.web import protocols
from vtkmodules.web import wslink as vtk_wslink
from wslink import register, schedule_callback, schedule_coroutine, server

SIDE = 2 * math.pi
"""The flow's period in each direction; the box shown is one period wide."""
COEFFICIENTS = (math.sqrt(3), math.sqrt(2), 1.0)
SPEEDS = (0.0, 3.5)
"""The range of colours. The speed is at most 3.46 with these coefficients."""
COLOURS = ("#1c3f78", "#2a86b8", "#4fc0c9", "#a9e5c8", "#f4e9a8", "#f9b45c", "#ee6c4d", "#d1383d")
TEXT_COLOUR = (0.80, 0.84, 0.90)
LEGEND = 90
"""The legend's width in pixels; narrow pictures go without it."""
SECRET_BEAT = 0.03
"""Seconds between two looks for a new secret."""


def sampled_flow(resolution: int) -> vtkArrayCalculator:
    """The flow on a grid of `resolution` points a side: point arrays `velocity` and `speed`."""
    grid = vtkImageData()
    grid.SetDimensions(resolution, resolution, resolution)
    step = SIDE / (resolution - 1)
    grid.SetSpacing(step, step, step)
    a, b, c = COEFFICIENTS
    velocity = vtkArrayCalculator()
    velocity.SetInputData(grid)
    for index, name in enumerate("xyz"):
        velocity.AddCoordinateScalarVariable(name, index)
    velocity.SetResultArrayName("velocity")
    velocity.SetFunction(
        f"({a}*sin(z)+{c}*cos(y))*iHat + ({b}*sin(x)+{a}*cos(z))*jHat"
        f" + ({c}*sin(y)+{b}*cos(x))*kHat"
    )
    speed = vtkArrayCalculator()
    speed.SetInputConnection(velocity.GetOutputPort())
    speed.AddVectorArrayName("velocity")
    speed.SetResultArrayName("speed")
    speed.SetFunction("mag(velocity)")
    return speed


def colour_scale() -> vtkColorTransferFunction:
    """Cool and dark where the flow is slow, warm where it is fast."""
    scale = vtkColorTransferFunction()
    scale.SetColorSpaceToLab()
    low, high = SPEEDS
    for index, colour in enumerate(COLOURS):
        red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        scale.AddRGBPoint(low + (high - low) * index / (len(COLOURS) - 1), red, green, blue)
    return scale


def streamtubes(flow: vtkArrayCalculator, count: int, scale: vtkColorTransferFunction) -> vtkActor:
    """`count` streamlines through points spread over the box, as tubes coloured by speed."""
    seeds = vtkPointSource()
    seeds.SetCenter(SIDE / 2, SIDE / 2, SIDE / 2)
    seeds.SetRadius(0.62 * SIDE)
    seeds.SetNumberOfPoints(count)
    tracer = vtkStreamTracer()
    tracer.SetInputConnection(flow.GetOutputPort())
    tracer.SetSourceConnection(seeds.GetOutputPort())
    tracer.SetInputArrayToProcess(0, 0, 0, 0, "velocity")
    tracer.SetIntegrationDirectionToBoth()
    tracer.SetIntegratorTypeToRungeKutta4()
    tracer.SetInitialIntegrationStep(0.5)
    tracer.SetMaximumPropagation(1.8 * SIDE)
    tracer.SetComputeVorticity(False)
    tubes = vtkTubeFilter()
    tubes.SetInputConnection(tracer.GetOutputPort())
    tubes.SetRadius(0.03)
    tubes.SetNumberOfSides(7)
    tubes.CappingOn()
    mapper = vtkPolyDataMapper()
    mapper.SetInputConnection(tubes.GetOutputPort())
    mapper.SetScalarModeToUsePointFieldData()
    mapper.SelectColorArray("speed")
    mapper.SetLookupTable(scale)
    mapper.UseLookupTableScalarRangeOn()
    actor = vtkActor()
    actor.SetMapper(mapper)
    actor.GetProperty().SetAmbient(0.12)
    actor.GetProperty().SetSpecular(0.35)
    actor.GetProperty().SetSpecularPower(30)
    return actor


def outline(flow: vtkArrayCalculator) -> vtkActor:
    """The edges of the box."""
    edges = vtkOutlineFilter()
    edges.SetInputConnection(flow.GetOutputPort())
    mapper = vtkPolyDataMapper()
    mapper.SetInputConnection(edges.GetOutputPort())
    actor = vtkActor()
    actor.SetMapper(mapper)
    actor.GetProperty().SetColor(0.45, 0.52, 0.64)
    return actor


def legible(text: vtkTextProperty, size: int) -> None:
    """Plain text of `size` points instead of VTK's bold, slanted, shadowed default."""
    text.SetFontSize(size)
    text.SetColor(*TEXT_COLOUR)
    text.BoldOff()
    text.ItalicOff()
    text.ShadowOff()


def scalar_bar(scale: vtkColorTransferFunction) -> vtkScalarBarActor:
    """The legend of the colours; Scene.resized puts it at the right edge."""
    bar = vtkScalarBarActor()
    bar.SetLookupTable(scale)
    bar.SetTitle("speed")
    bar.SetNumberOfLabels(8)
    bar.SetLabelFormat("{:.1f}")
    bar.UnconstrainedFontSizeOn()
    bar.SetMaximumWidthInPixels(70)
    bar.SetMaximumHeightInPixels(320)
    bar.SetHeight(0.5)
    bar.SetVerticalTitleSeparation(10)
    legible(bar.GetTitleTextProperty(), 15)
    legible(bar.GetLabelTextProperty(), 13)
    return bar


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

    def __init__(self, resolution: int, streamlines: int) -> None:
        flow, scale = sampled_flow(resolution), colour_scale()
        self.renderer = vtkRenderer()
        self.renderer.GradientBackgroundOn()
        self.renderer.SetBackground(0.035, 0.045, 0.075)
        self.renderer.SetBackground2(0.10, 0.14, 0.22)
        self.renderer.AddActor(streamtubes(flow, streamlines, scale))
        self.renderer.AddActor(outline(flow))
        self.legend = scalar_bar(scale)
        self.renderer.AddViewProp(self.legend)
        self.window = vtkRenderWindow()
        self.window.OffScreenRenderingOn()
        # Multisampling takes Mesa's software renderer three times as long as all the rest.
        self.window.SetMultiSamples(0)
        self.window.SetSize(960, 600)
        self.window.AddRenderer(self.renderer)
        require_renderer(self.window)
        # Not the platform's own: that loads X libraries, and nobody sits at this window.
        self.interactor = vtkGenericRenderWindowInteractor()
        self.interactor.SetInteractorStyle(vtkInteractorStyleTrackballCamera())
        self.interactor.SetRenderWindow(self.window)
        # Pictures are rendered as they are sent; one more for each mouse event halves their rate.
        self.interactor.EnableRenderOff()
        self.axes = vtkOrientationMarkerWidget()
        self.axes.SetOrientationMarker(vtkAxesActor())
        self.axes.SetInteractor(self.interactor)
        self.axes.SetViewport(0.0, 0.0, 0.2, 0.26)
        self.axes.EnabledOn()
        self.axes.InteractiveOff()
        self.untouched = True
        self.window.AddObserver("WindowResizeEvent", self.resized)
        self.resized()
        self.still()
        self.window.Render()

    def resized(self, *_: object) -> None:
        """Put the legend at the right edge; fit the box in, until the user takes the camera."""
        share = LEGEND / self.window.GetSize()[0]
        self.legend.SetVisibility(share < 0.2)
        self.legend.SetWidth(share)
        self.legend.SetPosition(1 - share, 0.06)
        if self.untouched:
            self.frame()

    def frame(self) -> None:
        """Fit the box into the window."""
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(0.0, 0.0, 0.0)
        camera.SetPosition(3.0, -4.6, 2.4)
        camera.SetViewUp(0.0, 0.0, 1.0)
        self.renderer.ResetCamera()
        self.renderer.ResetCameraClippingRange()

    def still(self, *_: object) -> None:
        """Smooth edges, for a picture that stays."""
        self.renderer.UseFXAAOn()

    def moving(self, *_: object) -> None:
        """Rough edges, twice as many pictures a second."""
        self.untouched = False
        self.renderer.UseFXAAOff()


class Pictures(protocols.vtkWebPublishImageDelivery):
    """Pictures as JPEG bytes: pushed while they change, or one when asked for."""

    def __init__(self) -> None:
        super().__init__(decode=False)
        # VTK encodes a frame while it renders the next; this is how soon it sends the last one.
        self.deltaStaleTimeBeforeRender = 0.05

    @register("viewport.image.render")
    def render_now(self, options: dict[str, Any]) -> dict[str, Any]:
        """One picture. VTK's own answer to this call cannot go together with pushed bytes."""
        picture: dict[str, Any] = self.stillRender(options)
        return picture


class FlowServer(vtk_wslink.ServerProtocol):
    """What the browser may call: the mouse, the camera, and pictures pushed or asked for."""

    options: argparse.Namespace
    """Set before wslink makes the instance: it takes the class and no arguments."""

    def initialize(self) -> None:
        """Called once by wslink, before it listens."""
        self.registerVtkWebProtocol(protocols.vtkWebMouseHandler())
        self.registerVtkWebProtocol(protocols.vtkWebViewPort())
        self.registerVtkWebProtocol(Pictures())
        self.updateSecret(self.options.authKey)
        path = Path(os.environ.get("HPCBRIDGE_DIRECTORY", ""), "secret.new")
        if path.exists():  # this session is one that waits for its user
            take_new_secret(self, path)
        application = self.getApplication()
        application.SetImageEncoding(0)  # JPEG itself, not base64 of it
        self.scene = Scene(self.options.resolution, self.options.streamlines)
        application.GetObjectIdMap().SetActiveObject("VIEW", self.scene.window)
        application.AddObserver("StartInteractionEvent", self.scene.moving)
        application.AddObserver("EndInteractionEvent", self.scene.still)


def new_secret(path: Path) -> str:
    """The new secret in the file at `path`, or '' while there is none."""
    try:
        line = path.read_text(encoding="ascii", errors="replace")
    except OSError:  # on NFS, now and then
        return ""
    whole = line.endswith("\n") and not line.startswith("taken ")
    return line.strip() if whole else ""


def take_new_secret(protocol: vtk_wslink.ServerProtocol, path: Path) -> None:
    """Take a new secret once it is in the file at `path`, and write its digest in its place.

    So a session that was kept ready becomes its user's alone.
    """
    if secret := new_secret(path):
        protocol.updateSecret(secret)
        # wslink tells its handler of connections to nobody else; who is there had the old one.
        for client in list(protocol.publish.__self__.connections.values()):
            schedule_coroutine(0, client.close)
        path.write_text(f"taken {hashlib.sha256(secret.encode()).hexdigest()}\n")
    else:
        schedule_callback(SECRET_BEAT, take_new_secret, protocol, path)


def between(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: an integer from `low` to `high`."""

    def integer(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return integer


def main() -> None:
    """Serve until the client has been gone for `--timeout` seconds, or SIGTERM."""
    parser = argparse.ArgumentParser(description="Streamlines of the ABC flow, in a browser.")
    server.add_arguments(parser)
    # Pictures are JPEG: compressing the WebSocket as well costs time and saves nothing.
    parser.set_defaults(nowscompress=True)
    parser.add_argument("--resolution", type=between(8, 256), default=40, help="grid points a side")
    parser.add_argument("--streamlines", type=between(1, 2000), default=160, help="how many")
    FlowServer.options = parser.parse_args()
    server.start_webserver(options=FlowServer.options, protocol=FlowServer)


if __name__ == "__main__":
    main()
