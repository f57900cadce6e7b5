"""What runs in a container of kind ``web``: a tool that speaks HTTP, and the hub's sign-in in front of it.

``python -P -m cupola.lab.app -- COMMAND...`` starts the tool (:mod:`.tool`), opens the session's port when it answers, and
lets through whom the hub lets in (:mod:`.door`). Tools with windows instead of pages come to the browser by
``python -P -m cupola.lab.app.desktop`` (:mod:`.desktop`).
"""
