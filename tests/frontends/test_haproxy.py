"""HAProxy before the whole service: what is tested of nginx holds for it as well."""

from .test_webservers import *  # noqa: F403

KINDS = ("haproxy",)
