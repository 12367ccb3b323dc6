"""One JupyterLab and one Chromium for all tests that drive them."""

import os
from collections.abc import Iterator

import pytest
from lab_in_browser import NotebookPage, course_folder, find_chromium, launch, served


@pytest.fixture(scope="session")
def needs_chromium() -> None:
    """Skip, with the reason, where this machine has no browser; fail where it was promised."""
    if find_chromium() is None:
        reason = "Chromium is not installed: on Debian and Ubuntu, `sudo apt-get install chromium`"
        if os.environ.get("COURSE_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def lesson_07(
    needs_chromium: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NotebookPage]:
    """Open lesson 07 as a learner gets it, in JupyterLab, and run all of it at the smallest scale."""
    from playwright.sync_api import sync_playwright

    folder = course_folder(tmp_path_factory.mktemp("browser") / "course", "07")
    with served(folder, "07") as address, sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        notebook = NotebookPage(page, address)
        notebook.run_all()
        yield notebook
        browser.close()
