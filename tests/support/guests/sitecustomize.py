"""Lets people in beside the owner where sessions are processes, which the platform itself refuses.

All such sessions have one system account, so nobody is kept apart from anybody. What a hub lets a visitor do in a session
is the same for processes and containers, though, and a test of that needs no container. Python loads this by itself
where its folder is on PYTHONPATH.
"""

from __future__ import annotations

import sys

if (
    any("jupyterhub" in word and "singleuser" not in word for word in sys.orig_argv)
    or "users" in sys.orig_argv
):
    from cupola.hub.signin.admission import Admission

    decide = Admission.__init__

    def let_others_in(self, config):
        decide(self, config)
        self.others = True

    Admission.__init__ = let_others_in
