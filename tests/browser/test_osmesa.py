"""VTK that draws by an OSMesa which is unpacked and not installed, and the same through EGL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from testbed import packages
from tests.browser import driver
from tests.processes import told
from tests.serviceprocess import ServiceProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]  # for slow machines
FLOW = Path(__file__).parents[2] / "hpcbridge/apps/flow.py"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    packages.unpack(tmp_path / "osmesa", packages.OSMESA)
    (library,) = (tmp_path / "osmesa").glob("usr/lib/*/libOSMesa.so.8")
    base = {"cluster": "here", "wait": 120, "walltime": 600}
    software = {"script": str(FLOW), "libraries": str(library.parent)}
    config = {
        "server": {"port": 0, "state_dir": str(tmp_path / "state")},
        "clusters": {"here": {"scheduler": "local"}},
        "applications": {
            "osmesa": base | {"template": "osmesa.sh", "properties": software},
            "egl": base | {"template": "python.sh", "properties": {"script": str(FLOW)}},
        },
    }
    with ServiceProcess(tmp_path, config, "--end-sessions") as running:
        yield running


@pytest.fixture
def page() -> Iterator[Page]:
    with driver.chromium() as browser:
        yield browser.new_page(viewport={"width": 1000, "height": 800})


def test_an_unpacked_osmesa_draws_what_egl_draws(service: ServiceProcess, page: Page) -> None:
    pictures = {}
    for way, library, other in (("osmesa", "libOSMesa", "libEGL"), ("egl", "libEGL", "libOSMesa")):
        driver.launch_from_page(page, service.url, way, timeout=120)
        libraries = told(f"HPCBRIDGE_DIRECTORY={service.folder}/", "maps")
        assert library in libraries
        assert other not in libraries
        pictures[way] = driver.rendering_pixels(page)
        before = driver.pictures_drawn(page)
        driver.rotate(page)
        assert driver.pictures_drawn(page) > before
        assert driver.rendering_pixels(page).difference(pictures[way]) > 0.004
        driver.stop(page)
    assert pictures["osmesa"].colours > 200
    assert pictures["osmesa"].difference(pictures["egl"]) < 0.02
