"""A trame application on ParaView: a cone whose number of sides has a slider."""

from paraview import simple
from trame.app import get_server
from trame.ui.vuetify3 import SinglePageLayout
from trame.widgets import vtk as views
from trame.widgets import vuetify3 as v

server = get_server()
state, ctrl = server.state, server.controller
server.cli.add_argument("--sides", type=int, default=6)
cone = simple.Cone(Resolution=server.cli.parse_known_args()[0].sides)
simple.Show(cone)
view = simple.Render()


@state.change("sides")
def on_sides(sides, **_):
    """As many sides as the slider says."""
    cone.Resolution = int(sides)
    simple.Render(view)
    ctrl.view_update()


with SinglePageLayout(server) as page:
    page.title.set_text("Cone")
    with page.toolbar:
        v.VSlider(v_model=("sides", cone.Resolution), min=3, max=60, step=1, name="Sides")
    with page.content:
        remote = views.VtkRemoteView(view.GetRenderWindow())
        ctrl.view_update = remote.update

server.start()
