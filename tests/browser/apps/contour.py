"""A trame application on ParaView: a contour of a wavelet, blue below and red above."""

from paraview import simple
from trame.app import get_server
from trame.ui.vuetify3 import SinglePageLayout
from trame.widgets import vtk as views
from trame.widgets import vuetify3 as v

server = get_server()
contour = simple.Contour(
    Input=simple.Wavelet(), ContourBy=["POINTS", "RTData"], Isosurfaces=[200.0]
)
coloured = simple.Elevation(Input=contour, LowPoint=[0, -8, 0], HighPoint=[0, 8, 0])
shown = simple.Show(coloured)
simple.ColorBy(shown, ("POINTS", "Elevation"))
colours = simple.GetColorTransferFunction("Elevation")
colours.RGBPoints = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]
colours.ColorSpace = "RGB"
view = simple.GetActiveView()
simple.ResetCamera(view)
simple.Render(view)


def grow():
    """A contour of a smaller value, which is a larger surface."""
    contour.Isosurfaces = [contour.Isosurfaces[0] - 20]
    simple.Render(view)
    server.controller.view_update()


with SinglePageLayout(server) as page:
    page.title.set_text(f"ParaView {simple.GetParaViewSourceVersion().split()[-1]}")
    with page.toolbar:
        v.VBtn("Larger", click=grow)
    with page.content:
        server.controller.view_update = views.VtkRemoteView(view.GetRenderWindow()).update

server.start()
