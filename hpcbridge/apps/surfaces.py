"""The trame application of the demo: triply periodic minimal surfaces, with controls of its own.

Run as a plain script (`python surfaces.py --server --host 127.0.0.1 --port 9000 --authKeyFile FILE
--timeout 0`); it needs the wheels `vtk`, `trame`, `trame-vtk` and `trame-vuetify`, the files
surfacescene.py and surfacefields.py beside it, and nothing of hpcbridge. The arguments are trame's
own, `--surface` and `--resolution`. Everything is drawn here and only pictures go to the browser.
trame's "App running at:" comes after the first picture was rendered: a node that cannot render is
never ready.
"""

import argparse
import asyncio
import time
from collections.abc import Callable

from trame.app import TrameApp
from trame.decorators import change
from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html
from trame.widgets import vtk as views
from trame.widgets import vuetify3 as v

if __package__:  # python -m hpcbridge.apps.surfaces
    from hpcbridge.apps.surfacefields import COLOURED_BY, SURFACES, Volume
    from hpcbridge.apps.surfacescene import COLOUR_MAPS, Scene
else:
    from surfacefields import COLOURED_BY, SURFACES, Volume
    from surfacescene import COLOUR_MAPS, Scene

CHART = (260, 84)
"""Width and height of the chart, in its own units."""
SEND_AGAIN = (0.05, 0.15)
"""Seconds between two looks for a picture that VTK was still encoding; trame's 0.5 s are felt."""
POINTS = 48
"""Points of the chart's curve."""
REPRESENTATIONS = {"surface": "Surface", "solid": "Solid", "wires": "Wires"}
WIDE = {"density": "compact", "hide_details": True, "variant": "outlined"}
CHART_SVG = f"""
<svg viewBox="0 0 {CHART[0]} {CHART[1] + 16}" role="img" class="chart"
     :aria-label="`${{fraction}} % of the volume lies below the level ${{level.toFixed(2)}}`">
  <path :d="curve + ' L {CHART[0]} {CHART[1]} L 0 {CHART[1]} Z'" class="area" />
  <path :d="curve" class="line" />
  <line :x1="mark[0]" :x2="mark[0]" :y1="mark[1]" y2="{CHART[1]}" class="drop" />
  <circle :cx="mark[0]" :cy="mark[1]" r="4.5" class="mark" />
  <text x="0" y="{CHART[1] + 13}">{{{{ levels[0].toFixed(2) }}}}</text>
  <text x="{CHART[0]}" y="{CHART[1] + 13}" text-anchor="end">{{{{ levels[1].toFixed(2) }}}}</text>
  <text x="{CHART[0] / 2}" y="{CHART[1] + 13}" text-anchor="middle">level</text>
</svg>
"""
STYLE = """
html { overflow: hidden; }
.view { height: 100vh; margin-top: -48px; padding-top: 48px; }
.chart { width: 100%; display: block; }
.chart text { font-size: 11px; fill: currentColor; opacity: 0.7; }
.chart .area { fill: rgb(var(--v-theme-primary)); opacity: 0.16; }
.chart .line { fill: none; stroke: rgb(var(--v-theme-primary)); stroke-width: 2; }
.chart .drop { stroke: currentColor; opacity: 0.4; stroke-dasharray: 3 3; }
.chart .mark { fill: rgb(var(--v-theme-primary)); stroke: rgb(var(--v-theme-surface));
  stroke-width: 2; }
.legend { height: 10px; border-radius: 5px; }
.numbers { display: grid; grid-template-columns: 1fr auto; gap: 2px 12px; }
.numbers dt { opacity: 0.75; }
.numbers dd { font-variant-numeric: tabular-nums; text-align: right; }
"""
PREFERRED = (
    "theme = utils.get('matchMedia')('(prefers-color-scheme: light)').matches ? 'light' : 'dark'"
)
THEMES = {
    "light": {"dark": False, "colors": {"primary": "#0b6e8a", "background": "#eef1f5"}},
    "dark": {
        "dark": True,
        "colors": {"primary": "#5ec8d8", "background": "#0d1119", "surface": "#161b26"},
    },
}


class Surfaces(TrameApp):
    """The page, and what its controls do. A job serves one user, so there is one state."""

    def __init__(self) -> None:
        super().__init__()
        options = self._options()
        self.volume = Volume(options.resolution)
        self.scene = Scene(self.volume)
        self._changed = asyncio.Event()
        self._sampled: str | None = None
        self._filled: tuple[int, str] | None = None
        self.state.update(
            {
                "surface": options.surface, "cells": 2, "level": 0.0, "levels": [-1.0, 1.0],
                "representation": "solid", "coloured_by": "mean", "colour_map": "Ice and fire",
                "sliced": False, "slice_axis": "y", "slice_at": 0.5, "cut_away": True,
                "theme": "dark", "drawer": None, "curve": "", "mark": [0, 0], "fraction": "",
                "area": "", "triangles": "", "took": "", "legend": "", "bounds": ["", ""],
                "trame__title": "Minimal surfaces",
            }
        )  # fmt: skip
        self._draw()
        self.scene.window.Render()
        self._page()
        self.ctrl.on_server_ready.add_task(self._keep_drawing)

    def _options(self) -> argparse.Namespace:
        parser = self.server.cli
        parser.add_argument("--surface", choices=list(SURFACES), default="gyroid")
        parser.add_argument(
            "--resolution", type=between(8, 64), default=28, help="samples a period, 8 to 64"
        )
        options: argparse.Namespace = parser.parse_known_args()[0]
        return options

    @change(
        "surface", "cells", "level", "representation", "coloured_by", "colour_map",
        "sliced", "slice_axis", "slice_at", "cut_away", "theme",
    )  # fmt: skip
    def _on_change(self, **_: object) -> None:
        self._changed.set()

    async def _keep_drawing(self, **_: object) -> None:
        """Draw when something has changed: once for all that came while the last was drawn."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            with self.state:
                self._draw()
            self.ctrl.view_update()
            for pause in SEND_AGAIN:
                await asyncio.sleep(pause)
                if self._changed.is_set():
                    break
                self.ctrl.view_update()

    def _draw(self) -> None:
        began = time.perf_counter()
        state, scene, volume = self.state, self.scene, self.volume
        before = scene.contour.GetOutput().GetMTime()
        if self._sampled != state.surface:
            self._sampled, self._filled = state.surface, None
            volume.sample(state.surface)
            state.levels = list(volume.levels)
            state.level = 0.0
            state.curve = self._curve()
        if self._filled != (state.cells, state.coloured_by):
            self._filled = (state.cells, state.coloured_by)
            volume.fill(state.cells, state.coloured_by)
        scene.theme(state.theme)
        scene.shape(state.level, state.representation)
        low, high = scene.colours(state.colour_map, state.coloured_by)
        scene.slices(state.sliced, state.slice_axis, state.slice_at, state.cut_away)
        self._tell(low, high)
        if scene.contour.GetOutput().GetMTime() != before:
            state.took = f"{(time.perf_counter() - began) * 1000:.0f} ms"

    def _tell(self, low: float, high: float) -> None:
        """The numbers, the legend, and the mark on the chart."""
        state, scene = self.state, self.scene
        share = self.volume.share_below(state.level)
        state.fraction = f"{100 * share:.1f}"
        first, last = state.levels
        across = (state.level - first) / (last - first)
        state.mark = [round(across * CHART[0], 1), round((1 - share) * CHART[1], 1)]
        triangles = scene.contour.GetOutput().GetNumberOfPolys()
        state.triangles = f"{triangles:,}".replace(",", "\u2009")
        # In a cube of side 1 there are cells^3 periods: area per volume, in units of one period.
        area = scene.area() / state.cells if triangles else 0.0
        state.area = f"{area:.3f}"
        colours = COLOUR_MAPS[state.colour_map].split()
        state.legend = f"background: linear-gradient(to right, {', '.join(colours)})"
        state.bounds = [f"{low:.3g}", f"{high:.3g}"]

    def _curve(self) -> str:
        """The share of the volume below each level, as an SVG path."""
        first, last = self.state.levels
        points = []
        for index in range(POINTS + 1):
            share = self.volume.share_below(first + (last - first) * index / POINTS)
            points.append(f"{index * CHART[0] / POINTS:.1f} {(1 - share) * CHART[1]:.1f}")
        return "M " + " L ".join(points)

    def _look(self, side: str) -> None:
        self.scene.look_from(side)
        self._changed.set()

    def _page(self) -> None:
        themes = {"theme": {"defaultTheme": "dark", "themes": THEMES}}
        with VAppLayout(self.server, vuetify_config=themes, theme=("theme",)):
            client.Style(STYLE)
            client.ClientTriggers(mounted=PREFERRED)
            with v.VAppBar(density="compact", elevation=1):
                v.VAppBarNavIcon(click="drawer = !drawer", raw_attrs=named("Controls"))
                v.VAppBarTitle("Minimal surfaces")
                for side in ("x", "y", "z"):
                    v.VBtn(
                        side, click=(self._look, f"['{side}']"), size="small", min_width=36,
                        raw_attrs=named(f"Look along {side}"), classes="text-none",
                    )  # fmt: skip
                icon("mdi-fit-to-screen-outline", "Reset the camera", (self._look, "['corner']"))
                icon(
                    ("theme === 'dark' ? 'mdi-weather-sunny' : 'mdi-weather-night'",),
                    "Light or dark", "theme = theme === 'dark' ? 'light' : 'dark'",
                )  # fmt: skip
            with (
                v.VNavigationDrawer(v_model=("drawer",), width=300, mobile_breakpoint=760),
                v.VContainer(classes="pa-4"),
            ):
                self._controls()
            with (
                v.VMain(),
                html.Div(classes="view"),
            ):
                view = views.VtkRemoteView(
                    self.scene.window, interactive_ratio=0.8, interactive_quality=70
                )
                self.ctrl.view_update = view.update

    def _controls(self) -> None:
        select("surface", "Surface", {key: name for key, (name, _) in SURFACES.items()})
        slider("level", "Level", "levels[0]", "levels[1]", 0.01, "level.toFixed(2)")
        html.Div("Volume below the level: {{ fraction }} %", classes="text-caption mb-1")
        html.Div(CHART_SVG, classes="mb-4")
        with v.VBtnToggle(
            v_model=("representation",), mandatory=True, divided=True, variant="outlined",
            density="compact", classes="d-flex mb-4",
        ):  # fmt: skip
            for value, name in REPRESENTATIONS.items():
                v.VBtn(name, value=value, classes="flex-grow-1 text-none", size="small")
        slider("cells", "Cells a side", 1, 3, 1, "cells")
        select("coloured_by", "Colour", COLOURED_BY)
        select("colour_map", "Colour map", {name: name for name in COLOUR_MAPS})
        html.Div(classes="legend", style=("legend",))
        with html.Div(classes="d-flex justify-space-between text-caption mb-2"):
            html.Span("{{ bounds[0] }}")
            html.Span("{{ bounds[1] }}")
        v.VSwitch(v_model=("sliced",), label="Slice", color="primary", **WIDE)
        with html.Div(v_if="sliced"):
            with v.VBtnToggle(
                v_model=("slice_axis",), mandatory=True, divided=True, variant="outlined",
                density="compact", classes="d-flex mb-2",
            ):  # fmt: skip
                for axis in "xyz":
                    v.VBtn(axis, value=axis, classes="flex-grow-1 text-none", size="small")
            slider("slice_at", "Position", 0, 1, 0.01, "slice_at.toFixed(2)")
            v.VSwitch(v_model=("cut_away",), label="Cut away", color="primary", **WIDE)
        v.VDivider(classes="my-3")
        numbers = {"Triangles": "triangles", "Area in a cell": "area", "Computed in": "took"}
        with html.Dl(classes="numbers text-caption"):
            for name, key in numbers.items():
                html.Dt(name)
                html.Dd(f"{{{{ {key} }}}}")


def select(key: str, label: str, items: dict[str, str]) -> None:
    """One of several."""
    choices = [{"title": title, "value": value} for value, title in items.items()]
    v.VSelect(v_model=(key,), label=label, items=(f"{key}_items", choices), classes="mb-4", **WIDE)


def slider(key: str, label: str, low: object, high: object, step: float, shown: str) -> None:
    """A number, shown as it moves."""
    with html.Div(classes="d-flex justify-space-between text-body-2"):
        html.Span(label)
        html.Span(f"{{{{ {shown} }}}}")
    v.VSlider(
        v_model=(key,), min=(str(low),), max=(str(high),), step=step, color="primary",
        hide_details=True, density="compact", classes="mx-0 mb-2", name=label,
    )  # fmt: skip


def named(label: str) -> list[str]:
    """Attributes that say what a button does, to all who ask."""
    return [f'aria-label="{label}"', f'title="{label}"']


def icon(name: object, label: str, click: object) -> None:
    """A button without words."""
    v.VBtn(icon=name, click=click, raw_attrs=named(label), size="small")


def between(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: an integer from `low` to `high`."""

    def integer(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return integer


if __name__ == "__main__":
    Surfaces().server.start()
