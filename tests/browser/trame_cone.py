"""A trame application with controls of its own: a cone, drawn by VTK, and its resolution."""

import sys

import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  # registers the renderer
from trame.app import get_server
from trame.ui.vuetify3 import SinglePageLayout
from trame.widgets import vtk as vtk_widgets
from trame.widgets import vuetify3
from vtkmodules.vtkFiltersSources import vtkConeSource
from vtkmodules.vtkInteractionStyle import vtkInteractorStyleTrackballCamera
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkPolyDataMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkRenderWindowInteractor,
)

sys.argv.append("--server")
server = get_server(client_type="vue3")
state, controller = server.state, server.controller

renderer = vtkRenderer()
renderer.SetBackground(0.1, 0.2, 0.4)
window = vtkRenderWindow()
window.OffScreenRenderingOn()
window.AddRenderer(renderer)
interactor = vtkRenderWindowInteractor()
interactor.SetRenderWindow(window)
interactor.SetInteractorStyle(vtkInteractorStyleTrackballCamera())
cone = vtkConeSource()
mapper = vtkPolyDataMapper()
mapper.SetInputConnection(cone.GetOutputPort())
actor = vtkActor()
actor.SetMapper(mapper)
renderer.AddActor(actor)
renderer.ResetCamera()


@state.change("resolution")
def resize(resolution: int, **_: object) -> None:
    """Draw it anew."""
    cone.SetResolution(int(resolution))
    state.said = f"The cone has {cone.GetResolution()} sides"
    controller.view_update()


with SinglePageLayout(server) as layout:
    with layout.toolbar:
        vuetify3.VBtn("More", id="more", click="resolution = resolution + 40")
        vuetify3.VLabel("{{ said }}", id="said")
    with layout.content, vuetify3.VContainer(fluid=True, classes="pa-0 fill-height"):
        view = vtk_widgets.VtkRemoteView(window, ref="view", interactive_ratio=1)
        controller.view_update = view.update

state.resolution = 6
state.said = ""
server.start()
