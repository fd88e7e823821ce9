"""The web page: pick an application, watch its job come up, use it in the browser."""

from hpcbridge.portal.pages import ApplicationCard, cards, mount

__all__ = ["ApplicationCard", "cards", "mount"]
