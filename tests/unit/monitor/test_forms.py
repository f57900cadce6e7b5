from __future__ import annotations

from cupola.monitor.forms import forms_of

PAGE = """
<form action="/search"><input name="q" value="moon"></form>
<form method="POST" action="/sessions/lab-1/stop">
  <input type="hidden" name="csrf" value="abc&amp;d"><input type="checkbox"><button name="ignored">Stop</button>
</form>
"""


def test_forms_are_filled_as_a_browser_would():
    search, stop = forms_of(PAGE)
    assert (search.method, search.action, search.fields) == ("get", "/search", {"q": "moon"})
    assert (stop.method, stop.action) == ("post", "/sessions/lab-1/stop")
    assert stop.fields == {"csrf": "abc&d"}


def test_a_page_without_forms():
    assert forms_of("<p>nothing</p><input name=stray>") == []
